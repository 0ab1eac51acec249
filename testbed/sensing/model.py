"""The signal model of a receiver: surveyed paths, and the columns X (cell under test) and D (everything else).

Columns are the delayed TIME frame passed through the very extraction that the samples pass, exact for any delay
(SIGNAL_CHAIN section 3). D holds all that is there under both hypotheses: self, every direct path, every echo of every
other target, every listed reflector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from testbed.config import StrictModel
from testbed.places import Place, check_places, distance_m
from testbed.units import SPEED_OF_LIGHT_MPS
from testbed.waveform.shift import cyclic_derivative, cyclic_shift

PathKind = Literal["self", "direct", "echo", "clutter"]
MIN_KAPPA = 0.3  # below this the cell's echo is mostly hidden behind another path


class SurveyNode(Place):
    """A node where the survey puts it."""


class SurveyUser(Place):
    """A receive-only node, and the transmitting node that serves it: it synchronises on that one's frame."""

    node: str


class Cell(Place):
    """A cell under test: a hypothesised target, judged by one node."""

    node: str


class Reflector(Place):
    """A static reflector listed in the survey."""


class Survey(StrictModel):
    """What the instrument knows of the geometry. `nodes` transmit and receive, `users` only receive."""

    nodes: tuple[SurveyNode, ...] = Field(min_length=1)
    users: tuple[SurveyUser, ...] = ()
    cells: tuple[Cell, ...] = ()
    reflectors: tuple[Reflector, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Survey":
        names = [node.name for node in self.nodes]
        kinds = {"nodes": self.nodes, "users": self.users, "cells": self.cells, "reflectors": self.reflectors}
        check_places(kinds)
        for i, user in enumerate(self.users):
            if user.name in names:
                raise ValueError(f"users[{i}].name: '{user.name}' is a node's name too; every radio needs its own")
        attached = [(f"cells[{i}]", cell.node) for i, cell in enumerate(self.cells)]
        attached += [(f"users[{i}]", user.node) for i, user in enumerate(self.users)]
        for where, node in attached:
            if node not in names:
                raise ValueError(f"{where}.node: '{node}' is no node; nodes are {', '.join(names)}")
        return self

    @property
    def node_names(self) -> tuple[str, ...]:
        """Names in node order."""
        return tuple(node.name for node in self.nodes)


@dataclass(frozen=True)
class Path:
    """A surveyed path to a receiver."""

    tx: int
    kind: PathKind
    via: str | None  # cell or reflector
    delay_samples: float  # after the transmitter's frame start; 0 for the self path

    def label(self, names: Sequence[str]) -> str:
        """For messages: 'direct bs2' or 'echo bs2-t1'."""
        return f"{self.kind} {names[self.tx]}" + (f"-{self.via}" if self.via else "")


def direct_paths(survey: Survey, user: SurveyUser, sample_rate_hz: float) -> tuple[Path, ...]:
    """Direct paths to a user, one per transmitter."""
    return tuple(
        Path(tx, "direct", None, distance_m(node, user) / SPEED_OF_LIGHT_MPS * sample_rate_hz)
        for tx, node in enumerate(survey.nodes)
    )


def cell_paths(survey: Survey, cell: Cell, sample_rate_hz: float) -> tuple[Path, ...]:
    """Echo paths of the cell under test to its node, one per transmitter: the columns of X."""
    return _echoes(survey, survey.node_names.index(cell.node), cell, sample_rate_hz)


def nuisance_paths(survey: Survey, cell: Cell, sample_rate_hz: float) -> tuple[Path, ...]:
    """Every other path to the cell's node: the columns of D."""
    rx = survey.node_names.index(cell.node)
    paths: list[Path] = []
    for tx, node in enumerate(survey.nodes):
        if tx == rx:
            paths.append(Path(tx, "self", None, 0.0))
        else:
            length_m = distance_m(node, survey.nodes[rx])
            paths.append(Path(tx, "direct", None, length_m / SPEED_OF_LIGHT_MPS * sample_rate_hz))
    for other in survey.cells:
        if other.name != cell.name:
            paths.extend(_echoes(survey, rx, other, sample_rate_hz))
    for reflector in survey.reflectors:
        paths.extend(_echoes(survey, rx, reflector, sample_rate_hz))
    return tuple(paths)


def time_columns(
    paths: Sequence[Path],
    frames: NDArray[np.complex128],
    offset_samples: NDArray[np.float64],
    *,
    derivative: bool = False,
) -> NDArray[np.complex128]:
    """Time frames of paths as they arrive after the receiver's frame start.

    Args:
        paths: K paths.
        frames: what each node sends, shape (num_nodes, frame_len).
        offset_samples: per node, start of its frame after the receiver's first sample, shape (num_nodes,).
        derivative: give d/d tau of each column instead.

    Returns:
        Shape (K, frame_len).
    """
    tx = [path.tx for path in paths]
    delays = offset_samples[tx] + np.array([path.delay_samples for path in paths])
    shift = cyclic_derivative if derivative else cyclic_shift
    return shift(frames[tx], delays)


def projection_basis(columns: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Orthonormal basis of range(columns), shape (N, rank).

    Columns are normalised first, so that a weak path counts as much as a strong one; SVD, never X^H X inverted.
    """
    norms = np.linalg.norm(columns, axis=0)
    active = columns[:, norms > 0] / norms[norms > 0]
    if active.shape[1] == 0:
        return np.zeros((columns.shape[0], 0), dtype=np.complex128)
    u, singular, _ = np.linalg.svd(active, full_matrices=False)
    basis: NDArray[np.complex128] = u[:, singular > 1e-10 * singular[0]]
    return basis


def visibility(X: NDArray[np.complex128], D: NDArray[np.complex128]) -> NDArray[np.float64]:
    """kappa_l = ||(I - P_D) x_l||^2 / ||x_l||^2 of every column of X; NaN for a silent transmitter."""
    U = projection_basis(D)
    power = np.sum(np.abs(X) ** 2, axis=0)
    left = np.sum(np.abs(X - U @ (U.conj().T @ X)) ** 2, axis=0)
    return np.divide(left, power, out=np.full(power.shape, np.nan), where=power > 0)


def _echoes(survey: Survey, rx: int, via: Cell | Reflector, sample_rate_hz: float) -> tuple[Path, ...]:
    kind: PathKind = "echo" if isinstance(via, Cell) else "clutter"
    back_m = distance_m(via, survey.nodes[rx])
    return tuple(
        Path(
            tx,
            kind,
            via.name,
            (distance_m(node, via) + back_m) / SPEED_OF_LIGHT_MPS * sample_rate_hz,
        )
        for tx, node in enumerate(survey.nodes)
    )
