"""Make the filters of this folder, `pluto/*.ftr`, and check what they promise.

    python firmware_configs/make_filters.py            write them
    python firmware_configs/make_filters.py --check    only say whether the files are the ones that it would write

How they are designed, and what the chip demands, is in `testbed.radio.devices.fir`.
"""

import sys
from pathlib import Path

from testbed.radio.devices.fir import Design, ftr_text

FOLDER = Path(__file__).parent / "pluto"
DESIGNS = (
    # 52 of 64 subcarriers reach to 0.414 of the sample rate, 1200 of 1536 to 0.391
    Design("lowpass_4x.ftr", 4, 128, pass_edge=0.42, ripple_db=0.01, attenuation_db=72.0, beta=7.9),
    Design("lowpass_2x.ftr", 2, 64, pass_edge=0.42, ripple_db=0.01, attenuation_db=72.0, beta=7.9),
    Design("sharp_2x.ftr", 2, 128, pass_edge=0.46, ripple_db=0.01, attenuation_db=72.0, beta=7.9),
)


def main(arguments: list[str]) -> int:
    """Write or check; the exit code says whether all is well."""
    if arguments not in ([], ["--check"]):
        print("usage: make_filters.py [--check]", file=sys.stderr)
        return 2
    differ = []
    for design in DESIGNS:
        path, text = FOLDER / design.name, ftr_text(design).encode("ascii")
        if not arguments:
            path.write_bytes(text)
        elif not path.is_file() or path.read_bytes() != text:
            differ.append(design.name)
    if differ:
        print(f"error: {', '.join(differ)}: not what this script makes; run it without --check", file=sys.stderr)
        return 1
    print(f"{'checked' if arguments else 'wrote'} {len(DESIGNS)} filters in {FOLDER.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
