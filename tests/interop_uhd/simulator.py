"""Starts the USRP simulator that Debian's python3-uhd holds, without what the package lacks.

A program for the Python of the distribution. It lacks a start script, a server for remote calls and a C++ module. It
prints one line of JSON when it is ready and one with its state for each line that it reads, which may be `overflow`,
`underflow` or `lose` (a packet), and ends when its standard input does.
"""

import argparse
import json
import sys
import types

import msgpack_rpc


def supply_what_debian_lacks() -> None:
    """Modules that the simulator imports and the package does not hold."""
    calls = types.ModuleType("mprpc")
    calls.RPCServer = msgpack_rpc.RPCServer
    periphs = types.ModuleType("usrp_mpm.libpyusrp_periphs")
    periphs.types = types.SimpleNamespace(log_buf=types.SimpleNamespace(make_singleton=lambda: None))
    for module in (calls, periphs):
        sys.modules[module.__name__] = module


def main() -> None:
    """Simulate until standard input ends."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--clock", action="store_true", help="a clock and time stamps, which it has not as packaged")
    options.add_argument("--log-level", default="critical", help="of the simulator's own messages")
    arguments = options.parse_args()
    supply_what_debian_lacks()
    import e320
    import gevent
    import loopback

    air = loopback.Air()
    print(json.dumps({"args": e320.start(air, arguments.clock, arguments.log_level)}), flush=True)
    while line := gevent.get_hub().threadpool.apply(sys.stdin.readline):
        command = line.strip()
        air.overflows |= command == "overflow"
        air.num_to_lose += command == "lose"
        air.underflows |= command == "underflow"
        state = {"transmitting": air.is_transmitting, "tx_gain_db": air.tx_gain_db, "rx_gain_db": air.rx_gain_db}
        print(json.dumps(state), flush=True)


if __name__ == "__main__":
    main()
