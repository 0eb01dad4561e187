"""What all figures by matplotlib share; they are SVG or PNG, without pyplot, which would keep state."""

import io
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from runner.report.runs import Floats
from runner.report.scale import Scale, scale_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which can be told apart without red and green.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#6b7280",
)  # fmt: skip
LINES = ((BLUE, "-"), (RED, "--"), (GREEN, "-."), (PURPLE, ":"), (ORANGE, "-"), (SKY, "--"), (GREY, "-."))
SIZE = (6.4, 4.0)
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "runner",  # the same figure is the same file
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.usetex": False,
}
LONGEST = 70
WIDE = 24

ABOVE = "loss above the known minimum"

Draw = Callable[["Figure"], None]


def drawn(draw: Draw, kind: str = "svg", size: tuple[float, float] = SIZE) -> bytes:
    """Return a figure as a file of a kind that matplotlib writes: svg, png, pdf."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own settings might need LaTeX
        matplotlib.rcParams.update(STYLE)
        figure = Figure(size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(file, format=kind, dpi=160, metadata=metadata)
    return file.getvalue()


def finite(values: Floats) -> Floats:
    """Return the finite values, or a zero where there are none."""
    found = values[np.isfinite(values)]
    return found if len(found) else np.zeros(1)


def add_line(axes: "Axes", steps: Any, values: Floats, colour: str, dash: Any, name: str, width: float = 1.8) -> None:
    """Draw a line over steps, of which a single one is a dot."""
    marker = "o" if np.isfinite(values).sum() == 1 else ""
    axes.plot(steps, values, color=colour, linestyle=dash, marker=marker, label=plain(name), linewidth=width)


def set_title(axes: "Axes", title: str) -> None:
    """Set a title, shortened where it is long."""
    axes.set_title(textwrap.shorten(title, LONGEST, placeholder=" ..."), parse_math=False)


def set_legend(axes: "Axes") -> None:
    """Name what is drawn, below the axes, where nothing is hidden."""
    figure = axes.get_figure()
    handles, labels = axes.get_legend_handles_labels()
    if figure is None or not handles:
        return
    columns = 2 if max(map(len, labels)) > WIDE else 3
    for text in figure.legend(handles, labels, loc="outside lower center", ncols=columns).get_texts():
        text.set_parse_math(False)  # a dollar in a name is a dollar


def plain(text: str) -> str:
    """Return a label that a legend shows: one that starts with an underscore would be left out."""
    return f" {text}" if text.startswith("_") else text


def set_scale(axes: "Axes", scale: Scale, label: str) -> None:
    """Set the vertical axis, with the floor of zeros and the strip of what is off the scale where they are used."""
    axes.set_ylabel(label)
    heights_drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines] or [np.zeros(0)])
    dots = [np.asarray(one.get_offsets(), float).reshape(-1, 2)[:, 1] for one in axes.collections]
    has_strip = bool((np.concatenate([heights_drawn, *dots]) >= scale.strip).any())
    if scale.is_log:
        axes.set_yscale("log")
    low = scale.low if scale.floor is None else scale.floor
    high = scale.strip if has_strip else scale.high
    margin = (high / low) ** 0.04 if scale.is_log else 0.05 * ((high - low) or abs(high) or 1.0)
    axes.set_ylim((low / margin, high * margin) if scale.is_log else (low - margin, high + margin))
    for at, text in ((scale.floor, "exactly 0"), (scale.strip if has_strip else None, "diverged or off the scale")):
        if at is not None:
            axes.axhline(at, color=GREY, linewidth=0.8, linestyle=":")
            side: dict[str, Any] = {"xytext": (3, 2), "textcoords": "offset points"}
            axes.annotate(text, (0, at), xycoords=("axes fraction", "data"), color=GREY, fontsize=8, **side)


def is_log(values: Floats) -> bool:
    """Return whether a log axis fits values."""
    return scale_of(values).is_log
