"""Figures 2 to 5 of the cooperative paper; medians and trimmed means beside means, both accountings of time sharing."""

import numpy as np

from sim.figures.cooperative_claims import Evidence
from sim.figures.cooperative_sweeps import DRAWN_SIZES, LOADS, MAX_CLUSTER, NUM_BLOCKS, SHARES
from sim.figures.drawing import Drawn
from testbed.plots import GREY, INK, MARKERS, PALETTE, Columns, house_style, new_figure
from testbed.theory.cooperative import VIEWS, acceptance, mean_crlb

_BOUND_LABEL = "Bound of the position, normalised"
_RATE_LABEL = "Mean rate (nats/s/Hz)"


@house_style()
def bound_figure(evidence: Evidence) -> Drawn:
    """2: bound over the number of sensing nodes, all accepting."""
    found = evidence.bounds
    N = found.num_nodes
    fig, ax = new_figure(size_in=(6.4, 4.4))
    columns = Columns("curve", "num_nodes", "normalised_crlb", "stderr")
    drawn = {"mean": found.mean, "median": found.median, "mean without largest 1 %": found.trimmed}
    for k, (name, values) in enumerate(drawn.items()):
        ax.plot(N, values, color=PALETTE[k], marker=MARKERS[k], ls="", ms=4, label=f"drawn, {name}")
        stderr = found.stderr if name == "mean" else None
        columns.add(curve=f"drawn {name}", num_nodes=N, normalised_crlb=values, stderr=stderr)
    theory = {
        "(12)": (mean_crlb(N), "-", INK),
        "(13)": (mean_crlb(N, form="mean_square"), "-", GREY),
        "(14), constant 2": (mean_crlb(N, form="law"), "--", INK),
        "(14) as printed": (mean_crlb(N, form="law", printed=True), ":", INK),
    }
    for name, (values, look, colour) in theory.items():
        ax.plot(N, values, color=colour, ls=look, label=name)
        columns.add(curve=name, num_nodes=N, normalised_crlb=values)
    ax.set(yscale="log", xlabel="Sensing nodes N", ylabel=_BOUND_LABEL, ylim=(6e-3, 1))
    ax.annotate("means of 2 and 3 nodes are infinite", (0.05, 0.04), xycoords="axes fraction", color=GREY)
    ax.legend()
    return fig, columns


@house_style()
def acceptance_figure(evidence: Evidence) -> Drawn:
    """3: the same where base stations have blocks for 15 requests, and their acceptance."""
    found = evidence.shared
    N = np.arange(2, 26)
    fig, (left, right) = new_figure(1, 2, size_in=(9.6, 4.4))
    columns = Columns("quantity", "curve", "num_nodes", "value")
    for k, (name, values) in enumerate((("median", found.median), ("mean without largest 1 %", found.trimmed))):
        left.plot(found.num_nodes, values, color=GREY, marker=MARKERS[3 + k], ls="", label=f"drawn, {name}")
        columns.add(quantity="normalised_crlb", curve=f"drawn {name}", num_nodes=found.num_nodes, value=values)
    for k, view in enumerate(VIEWS):
        kappa = acceptance(N, 1.0, NUM_BLOCKS, view=view)
        for form, name, look in (("law", "(16)", "-"), ("mean_distance", "(12)", "--")):
            crlb = mean_crlb(N, form=form, accepted=kappa)  # type: ignore[arg-type]
            left.plot(N, crlb, color=PALETTE[k], ls=look, label=f"{name}, {view} view")
            best = int(np.argmin(crlb))
            left.plot(N[best], crlb[best], color=PALETTE[k], marker=MARKERS[k], ls="")
            columns.add(quantity="normalised_crlb", curve=f"{name} {view}", num_nodes=N, value=crlb)
        right.plot(N, kappa, color=PALETTE[k], label=f"{view} view")
        columns.add(quantity="acceptance", curve=view, num_nodes=N, value=kappa)
    exact = acceptance(N, 1.0, NUM_BLOCKS, law="negative_binomial", exact_load=True)
    right.plot(N, exact, color=INK, ls="--", label="negative binomial, mean load N")
    right.plot(found.num_nodes, found.accepted, color=GREY, marker=MARKERS[3], ls="", label="drawn")
    columns.add(quantity="acceptance", curve="negative binomial", num_nodes=N, value=exact)
    columns.add(quantity="acceptance", curve="drawn", num_nodes=found.num_nodes, value=found.accepted)
    left.set(yscale="log", xlabel="Sensing nodes asked", ylabel=_BOUND_LABEL, ylim=(8e-3, 0.4))
    left.legend(ncols=2)
    right.set(xlabel="Sensing nodes asked", ylabel="Share of requests accepted", ylim=(0, 1.05))
    right.legend(loc="lower left")
    return fig, columns


@house_style()
def rate_figure(evidence: Evidence) -> Drawn:
    """4: mean rate over the users' cluster size, for some power shares and some loads."""
    found, L = evidence.rates, np.arange(1, MAX_CLUSTER + 1)
    fig, (left, right) = new_figure(1, 2, size_in=(9.6, 4.4), sharey=True)
    columns = Columns("curve", "load", "power_share", "cluster_size", "rate_nats", "stderr")
    one = LOADS.index(1.0)
    for m, load in enumerate(LOADS):
        for n, share in enumerate(SHARES):
            for name, curves in (("theorem 2", found.theorem2), ("exact", found.exact)):
                columns.add(curve=name, load=load, power_share=share, cluster_size=L, rate_nats=curves[m, n])
    for axis, entries in (
        (left, [(one, n, f"$p^c$ = {share:g}") for n, share in enumerate(SHARES)]),
        (right, [(m, len(SHARES) - 1, f"load {load:g}") for m, load in enumerate(LOADS)]),
    ):
        for k, (m, n, label) in enumerate(entries):
            axis.plot(L, found.theorem2[m, n], color=PALETTE[k], ls="--")
            axis.plot(L, found.exact[m, n], color=PALETTE[k], label=label)
            for (load, share, size), (mean, stderr) in found.drawn.items():
                if (load, share) == (LOADS[m], SHARES[n]):
                    axis.errorbar(size, mean, 2 * stderr, color=PALETTE[k], marker=MARKERS[k], ms=4, elinewidth=1)
        axis.set(xlabel="Serving nodes L", xticks=(*DRAWN_SIZES, 26))
        axis.legend()
    left.set(title="One user per base station", ylabel=_RATE_LABEL)
    right.set(title="All power to the users (exact: solid, Theorem 2: dashed)")
    for (load, share, size), (mean, stderr) in found.drawn.items():
        columns.add(curve="drawn", load=load, power_share=share, cluster_size=size, rate_nats=mean, stderr=stderr)
    return fig, columns


@house_style()
def region_figure(evidence: Evidence) -> Drawn:
    """5: rate against bound at some backhauls, cooperative and by time sharing."""
    fig, axes = new_figure(1, 2, size_in=(9.6, 4.4), sharex=True, sharey=True)
    columns = Columns("backhaul_nats", "scheme", "rate_nats", "normalised_crlb")
    for k, (C, region) in enumerate(evidence.regions.items()):
        for name, label in (
            ("cooperative", "cooperative"),
            ("slot", "time sharing, slot"),
            ("joint", "time sharing, joint"),
        ):
            crlb = getattr(region, name)
            columns.add(backhaul_nats=C, scheme=label, rate_nats=region.rates, normalised_crlb=crlb)
        known = np.isfinite(region.cooperative)
        for axis, name in zip(axes, ("slot", "joint"), strict=True):
            axis.plot(region.cooperative[known], region.rates[known], color=PALETTE[k], label=f"C = {C:g}")
            other = getattr(region, name)
            axis.plot(other[np.isfinite(other)], region.rates[np.isfinite(other)], color=PALETTE[k], ls="--")
    for axis, accounting in zip(axes, ("every slot by itself", "both together"), strict=True):
        axis.set(xscale="log", xlabel=_BOUND_LABEL, title=f"Time sharing (dashed), {accounting}", xlim=(None, 1))
    axes[0].set_ylabel(_RATE_LABEL)
    axes[0].legend()
    return fig, columns
