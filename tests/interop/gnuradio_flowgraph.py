"""A GNU Radio flowgraph that sends a signal over and over and keeps what it hears. Runs in GNU Radio's own Python.

python3 gnuradio_flowgraph.py PATTERN SIGNAL HEARD NUM_SAMPLES: reads complex64 from the file SIGNAL, prints where it
sends, reads the endpoint to listen to from standard input, writes NUM_SAMPLES complex64 to the file HEARD, and prints
GNU Radio's version and the seconds it took.
"""

import sys
import time

import numpy as np
from gnuradio import blocks, gr, zeromq

TIMEOUT_MS, HWM = 100, 16


def main() -> None:
    """Run the flowgraph until enough has been heard."""
    pattern, signal_path, heard_path, num_samples = *sys.argv[1:4], int(sys.argv[4])
    sink_of, source_of = {
        "reqrep": (zeromq.rep_sink, zeromq.req_source),
        "pushpull": (zeromq.push_sink, zeromq.pull_source),
    }[pattern]
    graph = gr.top_block()
    signal = blocks.vector_source_c(np.fromfile(signal_path, np.complex64), True)
    sink = sink_of(gr.sizeof_gr_complex, 1, "tcp://127.0.0.1:0", TIMEOUT_MS, False, HWM)
    print(sink.last_endpoint(), flush=True)
    source = source_of(gr.sizeof_gr_complex, 1, sys.stdin.readline().strip(), TIMEOUT_MS, False, HWM)
    head = blocks.head(gr.sizeof_gr_complex, num_samples)
    heard = blocks.file_sink(gr.sizeof_gr_complex, heard_path)
    graph.connect(signal, sink)
    graph.connect(source, head, heard)
    began = time.monotonic()
    graph.start()
    while head.nitems_written(0) < num_samples:
        time.sleep(0.01)
    seconds = time.monotonic() - began
    graph.stop()
    graph.wait()
    heard.close()
    print(gr.version(), seconds, flush=True)


main()
