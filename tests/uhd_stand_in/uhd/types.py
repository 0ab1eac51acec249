"""Stands for `uhd.types`."""

import enum
import math
from typing import Any


class StreamMode(enum.Enum):
    start_cont = 97
    stop_cont = 111
    num_done = 100
    num_more = 109


class RXMetadataErrorCode(enum.Enum):
    none = 0
    timeout = 1
    late = 2
    broken_chain = 4
    overflow = 8
    alignment = 12
    bad_packet = 15


class TXMetadataEventCode(enum.Enum):
    burst_ack = 1
    underflow = 2
    seq_error = 4
    time_error = 8
    underflow_in_packet = 16
    seq_error_in_packet = 32
    user_payload = 64


class TuneRequestPolicy(enum.Enum):
    none = 78
    auto = 65
    manual = 77


class TimeSpec:
    """Whole seconds and a fraction; sums of them, and no comparison."""

    def __init__(self, *args: float) -> None:
        if len(args) == 1:
            full, frac = 0, float(args[0])
        elif len(args) == 2:
            full, frac = int(args[0]), float(args[1])
        else:
            full, frac = int(args[0]), args[1] / args[2]
        whole = math.floor(frac)
        self._full, self._frac = full + whole, frac - whole

    @staticmethod
    def from_ticks(ticks: int, rate: float) -> "TimeSpec":
        whole_rate = int(rate)
        full = int(ticks / whole_rate) if ticks < 0 else ticks // whole_rate
        rest = ticks - full * whole_rate - full * (rate - whole_rate)
        return TimeSpec(full, rest / rate)

    def to_ticks(self, rate: float) -> int:
        whole_rate = int(rate)
        rest = self._full * (rate - whole_rate) + self._frac * rate
        return self._full * whole_rate + math.floor(rest + 0.5)

    def get_tick_count(self, rate: float) -> int:
        return math.floor(self._frac * rate + 0.5)

    def get_real_secs(self) -> float:
        return self._full + self._frac

    def get_full_secs(self) -> int:
        return self._full

    def get_frac_secs(self) -> float:
        return self._frac

    def __add__(self, other: "TimeSpec | float") -> "TimeSpec":
        other = other if isinstance(other, TimeSpec) else TimeSpec(other)
        return TimeSpec(self._full + other._full, self._frac + other._frac)

    def __sub__(self, other: "TimeSpec | float") -> "TimeSpec":
        other = other if isinstance(other, TimeSpec) else TimeSpec(other)
        return TimeSpec(self._full - other._full, self._frac - other._frac)


class DeviceAddr:
    """Device arguments: text, or key and value."""

    def __init__(self, args: Any = "") -> None:
        if isinstance(args, DeviceAddr):
            args = args.to_dict()
        if isinstance(args, str):
            parts = [part.split("=") for part in args.split(",") if part.strip()]
            if any(len(part) > 2 for part in parts):
                raise TypeError("__init__(): incompatible constructor arguments")
            args = {part[0].strip(): part[1].strip() if len(part) == 2 else "" for part in parts}
        self._args = dict(args)

    def to_dict(self) -> dict[str, str]:
        return dict(self._args)

    def to_string(self) -> str:
        return ",".join(f"{key}={value}" for key, value in self._args.items())

    def to_pp_string(self) -> str:
        if not self._args:
            return "Empty Device Address"
        return "Device Address:\n" + "".join(f"    {key}: {value}\n" for key, value in self._args.items())

    __str__ = to_pp_string


class MetaRange:
    """A range with steps, or without."""

    def __init__(self, start: float, stop: float, step: float = 0.0) -> None:
        self._start, self._stop, self._step = float(start), float(stop), float(step)

    def start(self) -> float:
        return self._start

    def stop(self) -> float:
        return self._stop

    def step(self) -> float:
        return self._step

    def clip(self, value: float, clip_step: bool = False) -> float:
        value = min(max(float(value), self._start), self._stop)
        if clip_step and self._step:
            value = self._start + round((value - self._start) / self._step) * self._step
        return value


GainRange = FreqRange = MetaRange


class SensorValue:
    """What a sensor says."""

    def __init__(self, name: str, value: bool, true: str, false: str) -> None:
        self.name, self.value, self.unit = name, "true" if value else "false", true if value else false

    def to_bool(self) -> bool:
        return self.value == "true"


class TuneRequest:
    """A carrier, and how to get there."""

    def __init__(self, target_freq: float = 0.0) -> None:
        self.target_freq = float(target_freq)
        self.rf_freq_policy = self.dsp_freq_policy = TuneRequestPolicy.auto
        self.rf_freq = self.dsp_freq = 0.0
        self.args = DeviceAddr()


class TuneResult:
    """What became of it."""

    def __init__(self) -> None:
        self.clipped_rf_freq = self.target_rf_freq = self.actual_rf_freq = 0.0
        self.target_dsp_freq = self.actual_dsp_freq = 0.0


class StreamCMD:
    """A command to a receive streamer."""

    def __init__(self, mode: StreamMode) -> None:
        if not isinstance(mode, StreamMode):
            raise TypeError("__init__(): incompatible constructor arguments")
        self._mode = mode  # which the real one does not tell either
        self.num_samps = 0
        self.stream_now = True
        self.time_spec = TimeSpec(0.0)


class RXMetadata:
    """What came with received samples; only a streamer writes it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._set()

    def _set(
        self,
        error_code: RXMetadataErrorCode = RXMetadataErrorCode.none,
        time_spec: TimeSpec | None = None,
        out_of_sequence: bool = False,
        start_of_burst: bool = False,
        end_of_burst: bool = False,
    ) -> None:
        self._error_code, self._time_spec = error_code, time_spec
        self._out_of_sequence, self._start_of_burst, self._end_of_burst = out_of_sequence, start_of_burst, end_of_burst

    @property
    def error_code(self) -> RXMetadataErrorCode:
        return self._error_code

    @property
    def has_time_spec(self) -> bool:
        return self._time_spec is not None

    @property
    def time_spec(self) -> TimeSpec:
        return TimeSpec(0.0) if self._time_spec is None else self._time_spec

    @property
    def out_of_sequence(self) -> bool:
        return self._out_of_sequence

    @property
    def start_of_burst(self) -> bool:
        return self._start_of_burst

    @property
    def end_of_burst(self) -> bool:
        return self._end_of_burst

    @property
    def more_fragments(self) -> bool:
        return False

    def strerror(self) -> str:
        return f"ERROR_CODE_{self._error_code.name.upper()}"


class TXMetadata:
    """What goes with samples to transmit."""

    def __init__(self) -> None:
        self.has_time_spec = self.start_of_burst = self.end_of_burst = False
        self.time_spec = TimeSpec(0.0)


class TXAsyncMetadata:
    """What a transmitter reports; only a streamer writes it."""

    def __init__(self) -> None:
        self._channel, self._event_code, self._time_spec = 0, TXMetadataEventCode.burst_ack, TimeSpec(0.0)
        self._has_time_spec = False

    def _set(self, channel: int, event_code: TXMetadataEventCode, time_spec: TimeSpec | None) -> None:
        self._channel, self._event_code, self._has_time_spec = channel, event_code, time_spec is not None
        self._time_spec = TimeSpec(0.0) if time_spec is None else time_spec

    @property
    def channel(self) -> int:
        return self._channel

    @property
    def event_code(self) -> TXMetadataEventCode:
        return self._event_code

    @property
    def has_time_spec(self) -> bool:
        return self._has_time_spec

    @property
    def time_spec(self) -> TimeSpec:
        return self._time_spec
