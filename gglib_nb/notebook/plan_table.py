"""What a repository offers, as a table: text, and HTML whose columns sort where a page lets scripts run.

Pure. The smallest first, the recommended row marked, and one column that says whether it fits: a person with 25 variants
before them looks for three things.
"""

from html import escape
from typing import Final

from gglib_nb.domain.plan import Fit, RepoPlan, VariantPlan
from gglib_nb.notebook import formats
from gglib_nb.notebook.tables import Cell, Column, Row, html_table, text_table
from gglib_nb.notebook.wording import printable

_COLUMNS: Final = (
    Column("Row", is_number=True),
    Column("Variant", is_code=True),
    Column("Size", is_number=True),
    Column("Bits/weight", is_number=True),
    Column("Memory", is_number=True),
    Column("Fits"),
    Column("Here"),
    Column("Free after", is_number=True),
    Column("Note"),
)
_GOOD: Final = "var(--jp-success-color0,#2e7d32)"
_CLOSE: Final = "var(--jp-warn-color0,#b35900)"
_BAD: Final = "var(--jp-error-color1,#c62828)"
_MUTED: Final = "var(--jp-ui-font-color2,#6b6b6b)"
_SHORT: Final = 60

# Where scripts are stripped (GitHub, untrusted notebooks) the heads stay plain text, so nothing looks clickable that is not.
_SORT_SCRIPT: Final = """<script>
(() => {
  const table = document.currentScript?.previousElementSibling?.querySelector("table");
  if (!table) return;
  const rank = (row, at) => {
    const { rank } = row.cells[at].dataset;
    return rank === undefined ? row.cells[at].textContent : Number(rank);
  };
  const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  [...table.tHead.rows[0].cells].forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = button.dataset.title = head.textContent;
    button.style.cssText = "all:unset;cursor:pointer;outline:revert";
    button.addEventListener("click", () => {
      const turn = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of table.tHead.rows[0].cells) {
        other.removeAttribute("aria-sort");
        other.lastChild.textContent = other.lastChild.dataset.title;
      }
      head.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending");
      button.textContent += turn === 1 ? " ▲" : " ▼";
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => turn * compare(rank(a, at), rank(b, at)));
      table.tBodies[0].append(...rows);
    });
    head.replaceChildren(button);
  });
})();
</script>"""


def plan_text(plan: RepoPlan) -> str:
    """The plan as lines of text."""
    lines = [_title(plan), *_warnings(plan), *_advice(plan), text_table(_COLUMNS, _rows(plan)), *_below(plan)]
    return "\n".join(_printable_lines(lines))


def plan_html(plan: RepoPlan) -> str:
    """The plan as HTML; sorts by a click on a head where scripts may run."""
    parts = [f"<div><strong>{escape(printable(_title(plan)))}</strong></div>"]
    parts += [_line(text, _BAD) for text in _warnings(plan)]
    parts += [f"<div>{escape(printable(text))}</div>" for text in _advice(plan)]
    parts += [f'<div style="overflow-x:auto">{html_table(_COLUMNS, _rows(plan))}</div>', _SORT_SCRIPT]
    parts += [_line(text, _MUTED) for text in _below(plan)]
    return f'<div style="line-height:1.4">{"".join(parts)}</div>'


def _printable_lines(lines: list[str]) -> list[str]:
    return [printable(line) for block in lines for line in block.split("\n")]


def _line(text: str, color: str) -> str:
    return f'<div style="color:{color}">{escape(printable(text))}</div>'


def _title(plan: RepoPlan) -> str:
    count = len(plan.variants)
    parts = [f"{plan.repo_id}{f'@{plan.revision}' if plan.revision else ''}", f"{count} variant{'s'[: count != 1]}"]
    if plan.free_bytes is not None:
        parts.append(f"{formats.size(plan.free_bytes)} free")
    if plan.ram_bytes is not None:
        parts.append(f"{formats.size(plan.ram_bytes)} RAM")
    if plan.vram_bytes is not None:
        parts.append(f"{formats.size(plan.vram_bytes)} GPU")
    return " · ".join(parts)


def _warnings(plan: RepoPlan) -> list[str]:
    if plan.has_access:
        return []
    page = plan.accept_url or f"https://huggingface.co/{plan.repo_id}"
    return [f"Gated: accept the terms at {page} and log in with hf auth login, then queue it."]


def _rows(plan: RepoPlan) -> list[Row]:
    return [Row(_cells(number, variant), variant.is_recommended) for number, variant in enumerate(plan.variants, 1)]


def _cells(number: int, variant: VariantPlan) -> tuple[Cell, ...]:
    bits, memory = variant.bits_per_weight, variant.memory
    needed = None if memory is None else memory.total_bytes
    about = "~" if memory is not None and memory.is_rough else ""
    return (
        Cell(str(number), number),
        Cell(variant.key),
        Cell(formats.size(variant.size_bytes), variant.size_bytes),
        Cell("" if bits is None else f"{bits:.1f}", bits),
        Cell("" if needed is None else about + formats.size(needed), needed),
        _fits(variant),
        _here(variant),
        _free_after(variant),
        Cell(_note(variant)),
    )


def _fits(variant: VariantPlan) -> Cell:
    """In the best place it fits: the GPU before the machine's memory, comfortably before tightly."""
    places: tuple[tuple[Fit, Fit, str, str], ...] = (
        (variant.vram_fit, "fits", "GPU", _GOOD),
        (variant.vram_fit, "tight", "GPU, tight", _CLOSE),
        (variant.ram_fit, "fits", "RAM", _GOOD),
        (variant.ram_fit, "tight", "RAM, tight", _CLOSE),
        (variant.ram_fit, "too large", "too large", _BAD),
    )
    for rank, (fit, wanted, text, color) in enumerate(places):
        if fit == wanted:
            return Cell(text, rank, color)
    return Cell("")


def _here(variant: VariantPlan) -> Cell:
    if variant.is_present:
        return Cell("all of it", 1, _GOOD)
    if not variant.present_bytes:
        return Cell("")
    share = variant.present_bytes / variant.size_bytes if variant.size_bytes else None
    return Cell(f"{formats.percent(share)}, {formats.size(variant.bytes_to_go)} to go", share)


def _free_after(variant: VariantPlan) -> Cell:
    free = variant.free_bytes_after
    if free is not None and free < 0:
        return Cell(f"{formats.size(-free)} short", free, _BAD)
    return Cell(formats.size(free), free)


def _note(variant: VariantPlan) -> str:
    parts = ["★ recommended" if variant.is_recommended else "", "in the queue" if variant.is_queued else ""]
    if variant.missing:
        parts.append(f"incomplete: {len(variant.missing)} of {variant.shard_count} files are missing")
    elif variant.shard_count > 1:
        parts.append(f"{variant.shard_count} files")
    if len(variant.why) <= _SHORT and not variant.is_recommended:
        parts.append(variant.why)
    return ", ".join(part for part in parts if part)


def _advice(plan: RepoPlan) -> list[str]:
    best = plan.recommended
    return [f"Recommended: {best.why}"] if best is not None and best.why else []


def _below(plan: RepoPlan) -> list[str]:
    lines = [
        _companion_line(plan, kind) for kind in dict.fromkeys(one.kind for one in plan.companions if one.can_fetch)
    ]
    if plan.context_tokens is not None:
        rough = any(variant.memory is not None and variant.memory.is_rough for variant in plan.variants)
        about = " It is rough (~): what this architecture keeps is not known exactly." if rough else ""
        lines.append(f"Memory is for {plan.context_tokens} tokens of context; --context changes that.{about}")
    return [*lines, "Download a row: %gguf queue ROW"]


def _companion_line(plan: RepoPlan, kind: str) -> str:
    sizes = ", ".join(formats.size(one.size_bytes) for one in plan.companions if one.kind == kind)
    return f"With it goes {kind} ({sizes}): add --with {kind} to %gguf queue"
