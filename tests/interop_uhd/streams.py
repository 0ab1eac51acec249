"""Sample streams of the simulator, mended: they can be started again, stopped at any time, run for hours, and tell.

As packaged, a stream to the host starts once in a streamer's life, counts its packets from zero, and a report of what
the host has read ends all streaming if it comes after the stop or as the hundred and first that nobody asked for. Nor
does the radio tell the host of underflows and the like.
"""

import copy
import time
from typing import Any

from loopback import ITEM_BYTES, Air, Event
from uhd.chdr import ChdrHeader, ChdrPacket, CtrlOpCode, CtrlPayload, PacketType
from usrp_mpm.simulator import chdr_stream, rfnoc_common, rfnoc_graph, stream_endpoint_node

WINDOW_BYTES, WINDOW_PACKETS = 65_536, 100  # from the host, on their way
POLL_S = 0.0005
RADIO_REGISTERS = range(0x1000, 0x1100)
TX_EVENTS, RX_EVENTS = 0x0000, 0x1000  # where the host listens
EVENTS: dict[Event, tuple[int, int]] = {  # where, and what is written there
    "underflow": (TX_EVENTS, 1),
    "late data": (TX_EVENTS, 2),
    "burst acknowledged": (TX_EVENTS, 3),
    "late command": (RX_EVENTS, 1),
    "overflow": (RX_EVENTS, 2),
}


class Spec(rfnoc_common.StreamSpec):
    """Of a stream to the host; `packet_samples` are bytes, whatever the name says."""

    def seconds_per_packet(self) -> float:
        """As long as the samples of a packet last."""
        return self.packet_samples / ITEM_BYTES / self.sample_rate


class Leaky:
    """The way to the host, on which packets can be lost."""

    def __init__(self, way: Any, air: Air) -> None:
        self._way, self._air = way, air

    def send_data(self, data: bytes, address: tuple[str, int]) -> None:
        """Send a packet, or not."""
        if self._air.num_to_lose:
            self._air.num_to_lose -= 1
        else:
            self._way.send_data(data, address)


class ToHost(chdr_stream.ChdrOutputStream):
    """A stream to the host that goes on where the last one of the same streamer ended."""

    def __init__(self, *arguments: Any, ticks: int | None, before: "ToHost | None", is_same_streamer: bool) -> None:
        self._ticks, self._before, self._is_same_streamer = ticks, before, is_same_streamer
        super().__init__(*arguments)

    def queue_packet(self, packet: Any) -> None:
        """The host says how much it has read."""
        self._update_recv(packet.get_payload_strs())

    def _tx_worker(self) -> None:
        before, self._before = self._before, None
        if before is not None:
            before.thread.join()
            if self._is_same_streamer:
                self.xfer, self.recv, self.data_seq_num = before.xfer, before.recv, before.data_seq_num
        if not self.stop and self.sample_source.begin(self._ticks):
            super()._tx_worker()
        if self.sample_source.is_cut:
            self.data_seq_num = (self.data_seq_num - 1) & 0xFFFF  # taken for a packet that never was

    def _can_fit_packet(self, num_bytes: int) -> bool:
        while not (fits := super()._can_fit_packet(num_bytes)) and not self.stop:
            time.sleep(POLL_S)
        return fits or self.stop


def begin_output(node: Any, spec: Any) -> None:
    """Start a stream to the host, behind the one before."""
    end_output(node)
    is_same_streamer = node.downstream_capacity is None
    if not is_same_streamer:
        node.capacity, node.downstream_capacity = node.downstream_capacity, None
    spec.dst_epid = node.dst_epid
    spec.capacity_packets, spec.capacity_bytes = node.capacity
    ticks = spec.init_timestamp if spec.is_timed else None
    own = copy.copy(spec)  # the next command writes into the same one
    spec.is_timed = own.is_timed = False  # this one was, not all that follow
    arguments = (node.log, node.chdr_w, node.source_gen(), own, Leaky(node.send_wrapper, node.air))
    node.output_stream = node.last_stream = ToHost(
        *arguments, ticks=ticks, before=node.last_stream, is_same_streamer=is_same_streamer
    )


def end_output(node: Any) -> None:
    """Stop the stream to the host, if there is one."""
    stream, node.output_stream = node.output_stream, None
    if stream is not None:
        stream.finish()


def take_report(node: Any, packet: Any, **_: Any) -> None:
    """The host reports what it has read, first when it made a streamer."""
    epid = packet.get_header().dst_epid
    if epid in node.strs_handlers:
        node.strs_handlers.pop(epid)(packet)
    elif node.last_stream is not None:
        node.last_stream.queue_packet(packet)


class Teller:
    """Tells the host what happens in the radio: it writes to a register there, as the host does to the radio's."""

    def __init__(self, handle_control: Any) -> None:
        self._handle_control = handle_control
        self._node: Any = None
        self._host = (0, 0, ("", 0))  # endpoint, port of the radio block, address
        self._count = 0

    def handle(self, node: Any, packet: Any, regs: Any, sender: tuple[str, int], **more: Any) -> Any:
        """A control packet: an answer to an event, or a command."""
        payload = packet.get_payload_ctrl()
        if payload.is_ack:
            return None
        if payload.address in RADIO_REGISTERS:
            self._node, self._host = node, (payload.src_epid, payload.dst_port, sender)
        return self._handle_control(node, packet, regs=regs, sender=sender, **more)

    def tell(self, event: Event, ticks: int) -> None:
        """Something happened at a time."""
        epid, port, address = self._host
        header, payload = ChdrHeader(), CtrlPayload()
        header.dst_epid, header.pkt_type = epid, PacketType.CTRL
        payload.dst_port = payload.src_port = port
        payload.src_epid, payload.seq_num = self._node.epid, self._count % 64
        payload.op_code, payload.byte_enable = CtrlOpCode.WRITE, 0xF
        payload.timestamp = ticks
        payload.address, code = EVENTS[event]
        payload.set_data([code])
        self._count += 1
        self._node.send_wrapper.send_packet(ChdrPacket(self._node.chdr_w, header, payload), address)


def mend(air: Air) -> None:
    """Put all this in the place of what the simulator has."""
    rfnoc_graph.StreamSpec = Spec
    node = stream_endpoint_node.StreamEndpointNode  # compared by identity: its methods are replaced, not the class
    node.air, node.last_stream, node.capacity = air, None, None
    node.begin_output, node.end_output, node._handle_strs_packet = begin_output, end_output, take_report
    teller = Teller(node._handle_ctrl_packet)
    node._handle_ctrl_packet = lambda *arguments, **named: teller.handle(*arguments, **named)
    air.tell = teller.tell
    chdr_stream.ChdrInputStream.CAPACITY_BYTES = WINDOW_BYTES
    chdr_stream.ChdrInputStream.QUEUE_CAP = WINDOW_PACKETS
