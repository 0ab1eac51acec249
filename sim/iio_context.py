"""An IIO context: devices, their channels, the files behind their attributes, and the XML in which a client reads it.

Names of files are the kernel's, which some clients use in place of the attributes' own (gr-iio). One file may stand in
several channels: there is one sample rate, however many channels show it.
"""

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

from sim.iiod_protocol import refused
from sim.sysfs import File

# without it libxml2 complains on the standard error of every client
_GRAMMAR = "<!DOCTYPE context [{}]>".format(
    "".join(
        f"<!ELEMENT {name} {content}>"
        for name, content in (
            ("context", "(context-attribute*, device*)"),
            ("context-attribute", "EMPTY"),
            ("device", "(channel*, attribute*, debug-attribute*, buffer-attribute*)"),
            ("channel", "(scan-element?, attribute*)"),
            ("scan-element", "EMPTY"),
            ("attribute", "EMPTY"),
            ("debug-attribute", "EMPTY"),
            ("buffer-attribute", "EMPTY"),
        )
    )
    + "".join(
        f"<!ATTLIST {name} {' '.join(f'{key} CDATA {use}' for key, use in keys.items())}>"
        for name, keys in (
            ("context", {"name": "#REQUIRED", "description": "#IMPLIED"}),
            ("context-attribute", {"name": "#REQUIRED", "value": "#REQUIRED"}),
            ("device", {"id": "#REQUIRED", "name": "#IMPLIED"}),
            ("channel", {"id": "#REQUIRED", "type": "#REQUIRED", "name": "#IMPLIED"}),
            ("scan-element", {"index": "#REQUIRED", "format": "#REQUIRED"}),
            ("attribute", {"name": "#REQUIRED", "filename": "#IMPLIED"}),
            ("debug-attribute", {"name": "#REQUIRED"}),
            ("buffer-attribute", {"name": "#REQUIRED"}),
        )
    )
)


@dataclass(frozen=True)
class Channel:
    """A channel: its attributes by name, each with the name of its file."""

    id: str
    output: bool
    attributes: Mapping[str, tuple[str, File]]
    name: str | None = None
    index: int | None = None  # in the buffer
    format: str = ""


@dataclass(frozen=True)
class Device:
    """A device of the context."""

    id: str
    name: str
    channels: tuple[Channel, ...]
    attributes: Mapping[str, File] = field(default_factory=dict)
    debug: Mapping[str, File] = field(default_factory=dict)
    buffer: Mapping[str, File] = field(default_factory=dict)

    @property
    def num_scan(self) -> int:
        """Channels that a buffer may hold."""
        return sum(channel.index is not None for channel in self.channels)

    def files(self, kind: str, channel: str) -> Mapping[str, File]:
        """Attributes of the device, of its debug or buffer folder, or of a channel.

        Raises:
            OSError: ENODEV where there is no such channel.
        """
        if kind == "device":
            return self.attributes
        if kind == "debug":
            return self.debug
        if kind == "buffer":
            return self.buffer
        for own in self.channels:
            if own.output == (kind == "output") and channel in (own.id, own.name):
                return {name: file for name, (_, file) in own.attributes.items()}
        raise refused(errno.ENODEV)


def xml(context: tuple[Device, ...], attributes: Mapping[str, str], description: str) -> str:
    """The context as a client reads it upon PRINT."""
    text = ['<?xml version="1.0" encoding="utf-8"?>', _GRAMMAR]
    text.append(f'<context name="local" description={quoteattr(description)} >')
    text += [f"<context-attribute name={quoteattr(k)} value={quoteattr(v)} />" for k, v in attributes.items()]
    for device in context:
        text.append(f"<device id={quoteattr(device.id)} name={quoteattr(device.name)} >")
        for channel in device.channels:
            name = "" if channel.name is None else f" name={quoteattr(channel.name)}"
            direction = "output" if channel.output else "input"
            text.append(f'<channel id={quoteattr(channel.id)}{name} type="{direction}" >')
            if channel.index is not None:
                text.append(f'<scan-element index="{channel.index}" format={quoteattr(channel.format)} />')
            text += [
                f"<attribute name={quoteattr(name)} filename={quoteattr(file)} />"
                for name, (file, _) in channel.attributes.items()
            ]
            text.append("</channel>")
        for tag, files in (
            ("attribute", device.attributes),
            ("debug-attribute", device.debug),
            ("buffer-attribute", device.buffer),
        ):
            text += [f"<{tag} name={quoteattr(name)} />" for name in files]
        text.append("</device>")
    return "".join([*text, "</context>"])
