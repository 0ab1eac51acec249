"""A GNU Radio flowgraph on a Pluto: its iio blocks send a signal and keep what they hear. Runs in GNU Radio's Python.

python3 gnuradio_pluto.py URI SIGNAL HEARD NUM_SAMPLES CYCLIC: reads complex64 from the file SIGNAL, repeats it (1: in
the board, cyclic; 0: streamed), writes NUM_SAMPLES complex64 to the file HEARD, prints version and samples per second.
"""

import os
import sys
import time

import numpy as np
from gnuradio import blocks, gr, iio

CARRIER_HZ, RATE_HZ, BANDWIDTH_HZ = 2_400_000_000, 20_000_000, 18_000_000


def main() -> None:
    """Run the flowgraph until enough has been heard."""
    uri, signal_path, heard_path = sys.argv[1:4]
    num_samples, cyclic = int(sys.argv[4]), sys.argv[5] == "1"
    wave = np.fromfile(signal_path, np.complex64)
    graph = gr.top_block()
    signal = blocks.vector_source_c(wave, not cyclic)
    sink = iio.fmcomms2_sink_fc32(uri, [True, True], wave.size, cyclic)
    source = iio.fmcomms2_source_fc32(uri, [True, True], 32_768)
    for block in (source, sink):
        block.set_frequency(CARRIER_HZ)
        block.set_samplerate(RATE_HZ)
        block.set_filter_params("Auto", "", 0, 0)  # as the graphical editor does: libad9361 loads a filter for the rate
    sink.set_bandwidth(BANDWIDTH_HZ)
    source.set_quadrature(True)
    source.set_rfdc(True)
    source.set_bbdc(True)
    sink.set_attenuation(0, 10.0)
    source.set_gain_mode(0, "manual")
    source.set_gain(0, 30.0)
    head = blocks.head(gr.sizeof_gr_complex, num_samples)
    heard = blocks.file_sink(gr.sizeof_gr_complex, heard_path)
    graph.connect(signal, sink)
    graph.connect(source, head, heard)
    graph.start()
    began = time.monotonic()
    while head.nitems_written(0) < num_samples:
        time.sleep(0.01)
    seconds = time.monotonic() - began
    graph.stop()
    graph.wait()
    heard.close()
    print(gr.version(), num_samples / seconds, flush=True)
    os._exit(0)  # destructors of these blocks join a thread that 3.10.5 does not always end


main()
