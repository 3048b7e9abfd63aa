"""Running a needle test for a session: prompt after prompt, what is there already left out."""

from dca_hub.evaluation import needle
from dca_hub.evaluation.grid import Grid
from dca_hub.loading import Loaded
from dca_hub.space import needle_view as view
from dca_hub.space.context import Context
from dca_hub.space.lane import Tell
from dca_hub.space.sessions import Session
from dca_hub.space.turns import SIDES


def work(context: Context, session: Session, mode: str, own: str, tell: Tell) -> None:
    """Measures what the session's grid still lacks; tells words, the cell that is measured, and if to draw anew."""
    loaded, grid = context.host.loaded, session.grid
    session.needle[:] = [r for r in session.needle if r.model == loaded.name]
    longest = max(grid.lengths)
    context.sessions.make_room(longest * loaded.cache_bytes_per_token, session)
    with context.host.reserve(longest):  # others use the model between two pieces of a prompt
        _measure(session, grid, loaded, mode, own, tell)


def _measure(session: Session, grid: Grid, loaded: Loaded, mode: str, own: str, tell: Tell) -> None:
    """DCA and the plain model take turns at each prompt, so that their maps fill side by side."""
    sides, order = SIDES[mode], list(grid.trial_keys())
    known = {side: {r.trial_key for r in session.needle if r.dca == (side == "dca")} for side in sides}
    waiting = [(side, place) for place in order for side in sides if place not in known[side]]
    at = _Position()

    def progress(done: int, of: int) -> None:
        words = f"{at.words()}: {done:,} of {of:,} tokens read · {asked(session, grid, mode)} of {total} prompts"
        tell((words, at.key(), at.fresh()))

    total, done = grid.prompts * len(sides), list(session.needle)
    runs = {
        side: needle.run(
            loaded.model if side == "dca" else loaded.base, loaded.tokenizer, grid, name=loaded.name,
            dca=side == "dca", text=own, done=done, progress=progress,
        )
        for side in sides
    }  # fmt: skip
    for side, place in waiting:
        at.go_to(side, place)
        session.needle.append(next(runs[side]))
        tell((f"{asked(session, grid, mode)} of {total} prompts", at.key(), True))


class _Position:
    """The prompt that is being asked."""

    def __init__(self):
        self.side, self.trial_key, self._told = "", (0, 0.0, 0), False

    def go_to(self, side: str, trial_key: tuple[int, float, int]) -> None:
        self.side, self.trial_key, self._told = side, trial_key, False

    def key(self) -> str:
        return view.key_of(self.side, *self.trial_key[:2])

    def fresh(self) -> bool:
        """Whether the map does not show this prompt as running yet."""
        told, self._told = self._told, True
        return not told

    def words(self) -> str:
        length, depth, _ = self.trial_key
        return f"{'DCA' if self.side == 'dca' else 'Plain'}, {length:,} tokens, depth {100 * depth:.0f} %"


def asked(session: Session, grid: Grid, mode: str) -> int:
    """How many of the grid's prompts have been asked."""
    wanted = set(grid.trial_keys())
    return sum(r.trial_key in wanted and ("dca" if r.dca else "plain") in SIDES[mode] for r in session.needle)


def summary(session: Session, mode: str) -> str:
    """That, in words."""
    if session.grid is None:
        return ""
    total = session.grid.prompts * len(SIDES.get(mode, SIDES["both"]))
    return f"{asked(session, session.grid, mode if mode in SIDES else 'both')} of {total} prompts are done."
