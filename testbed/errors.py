"""The error tree. Every message reads: where - what was found - what is allowed - what to do.

    IsacError
    +-- ConfigError            a file or value given by the user
    +-- RadioError             a radio, or the wire to it
    |   +-- RadioUnavailable   not installed, not found, or gone; the message holds the recipe
    |   +-- RadioTimeout       it did not answer in time
    |   +-- SampleLoss         fewer, repeated or interrupted samples
    |   +-- SettingOutOfRange  a wanted setting it cannot realise
    |   +-- SafetyRefused      a transmission the safety rules forbid
    +-- CaptureError           a capture file that is missing, cut short or not ours
    |   +-- EndOfCapture       a replay ran out of samples
    +-- SyncError              the transmitted frame was not found in the samples
    +-- WorkerLost             work given to another process did not come back
    |   +-- ClusterLost        and there is nobody left to give it to

Wrong arguments to mathematics are `ValueError`; Ctrl-C passes through as `KeyboardInterrupt`.
"""


class IsacError(Exception):
    """Any failure the user can act on; its text is one line."""


class ConfigError(IsacError):
    """A file or value the user gave cannot be used; usual cause: a mistyped key or a value out of range."""


class RadioError(IsacError):
    """A radio, or the wire to it, failed."""


class RadioUnavailable(RadioError):
    """The radio is not there; usual cause: driver not installed, wrong address, or the server ended."""


class RadioTimeout(RadioError):
    """The radio did not answer in time; usual cause: a stalled server or a cable."""


class SampleLoss(RadioError):
    """Samples are missing or not contiguous; usual cause: a host too slow for the sample rate."""

    def __init__(self, message: str, num_lost: int = 0) -> None:
        super().__init__(message)
        self.num_lost = num_lost  # samples; 0 where nobody knows


class SettingOutOfRange(RadioError):
    """A wanted setting lies outside what the radio can realise."""


class SafetyRefused(RadioError):
    """A transmission was refused; usual cause: clipping samples or no consent to transmit."""


class CaptureError(IsacError):
    """A capture cannot be read or written; usual cause: a file cut short or of another layout."""


class EndOfCapture(CaptureError):
    """A replayed capture holds no further samples."""


class SyncError(IsacError):
    """The transmitted frame was not found; usual cause: receive gain too low or a disconnected antenna."""


class WorkerLost(IsacError):
    """Work given to another process did not come back; usual cause: out of memory."""


class ClusterLost(WorkerLost):
    """There is nobody left to give work to; usual cause: a cluster that was shut down."""
