"""A rival outside: GNU Radio's `channels.channel_model` with one static tap and noise.

Run by the distribution's Python, which has its packages, in a process that says what CPU time it used. Per line of
standard input, a number of samples, one flowgraph runs; the answer is its CPU time and wall time in seconds.

The flowgraph is the cheapest there is: a table that repeats, the model, a sink that throws away. It gives complex
float samples without a converter, and its noise is drawn from a table of some thousand numbers.
"""

import os
import sys
import time


def main() -> None:
    """Serve until standard input ends."""
    from gnuradio import blocks, channels, gr

    os.sched_setaffinity(
        0, [min(os.sched_getaffinity(0))]
    )  # its scheduler has a thread per block: here all on one core
    table = [complex((7 * k) % 13 - 6, (5 * k) % 11 - 5) / 8 for k in range(1 << 14)]
    print("ready", flush=True)
    for line in sys.stdin:
        graph = gr.top_block()
        model = channels.channel_model(0.1, 0.0, 1.0, [0.5 + 0.25j])  # noise, frequency offset, clock ratio, taps
        head = blocks.head(gr.sizeof_gr_complex, int(line))
        graph.connect(blocks.vector_source_c(table, True), model, head, blocks.null_sink(gr.sizeof_gr_complex))
        cpu_began, wall_began = time.process_time(), time.perf_counter()
        graph.run()
        print(time.process_time() - cpu_began, time.perf_counter() - wall_began, flush=True)


if __name__ == "__main__":
    main()
