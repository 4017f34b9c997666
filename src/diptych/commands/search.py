"""Find pictures in a folder by words, or by another picture."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from diptych.capabilities.predictor import Predictor
    from diptych.core.source import Source
    from diptych.core.visual import Image
    from diptych.serving.index import PictureIndex, Update
    from diptych.serving.job import Answered, Outcome


def main(arguments: list[str]) -> int:
    """`diptych search photos/ "a dog on a beach" --model M`: the first search makes an index, later ones use it."""
    from diptych.commands._pictures import INTERRUPTED, add_arguments, check

    parser = argparse.ArgumentParser(prog="diptych search", description=__doc__)
    add_arguments(parser)
    parser.add_argument("query", nargs="?", help="words to search for")
    parser.add_argument("--picture", type=Path, help="search for what looks like this picture instead")
    parser.add_argument("--top", type=int, default=20, help="pictures to show (default 20)")
    parser.add_argument("--index", type=Path, help="the index's folder (default: one in the user's cache)")
    parser.add_argument("--rebuild", action="store_true", help="make the index anew")
    options = parser.parse_intermixed_args(arguments)

    from rich.console import Console

    from diptych.capabilities.load import load
    from diptych.core.errors import ConfigError
    from diptych.core.visual import as_image
    from diptych.serving.pictures import open_pictures
    from diptych.serving.search import check_query, has_vectors

    check(options)
    check_query(options.query, options.picture)
    if options.top < 1:
        raise ConfigError(f"--top {options.top} must be at least 1")
    picture = as_image(options.picture) if options.picture is not None else None
    source = open_pictures(options.path)
    model = load(options.model, options.device)
    console = Console()
    if has_vectors(model, picture is None):
        hits, stopped = _by_vectors(model, source, options, picture, console)
    else:
        hits, stopped = _by_scores(model, source, options, console)
    _show(hits, model, source, options, picture, console)
    if options.open and not stopped:
        webbrowser.open(options.html.resolve().as_uri())
    return INTERRUPTED if stopped else 0


def _by_vectors(
    model: Predictor, source: Source, options: argparse.Namespace, picture: Image | None, console: Console
) -> tuple[list[Answered], bool]:
    from diptych.serving.job import Answered
    from diptych.serving.search import query_vector

    vector_D = query_vector(model, options.query, picture)  # a query that cannot be is told before the work
    index = _opened(model, options, console)
    done = _updated(index, model, source, options)
    _tell(index, done, source, console)
    hits = index.search(vector_D, options.top)
    return [Answered(hit.key, {"score": hit.score}) for hit in hits], done.outcome is not None and done.outcome.stopped


def _opened(model: Predictor, options: argparse.Namespace, console: Console) -> PictureIndex:
    """The index; one in the cache that is of another model now, or damaged, is made anew, one of the user's is not.

    Raises:
        CheckpointError: the user's index is of another model, or damaged.
    """
    from diptych.core.errors import CheckpointError
    from diptych.serving.index import PictureIndex, fingerprint_of
    from diptych.serving.search import cache_folder

    folder = options.index or cache_folder(options.model, options.path)
    fingerprint = fingerprint_of(model)
    try:
        if not options.rebuild:
            return PictureIndex.open(folder, fingerprint, model.name)
    except CheckpointError as error:
        if options.index is not None:
            raise CheckpointError(f"{error}; --rebuild makes it anew") from error
        console.print(f"{error}: it is made anew", style="yellow", markup=False, highlight=False)
    return PictureIndex(folder, fingerprint, model.name)


def _updated(index: PictureIndex, model: Predictor, source: Source, options: argparse.Namespace) -> Update:
    from diptych.commands._pictures import progress
    from diptych.serving.job import JobOptions

    with progress(len(source)) as advance:
        return index.update(model, source, JobOptions(options.batch_size, options.threads), advance)


def _tell(index: PictureIndex, done: Update, source: Source, console: Console) -> None:
    """What the index took in, and how long that took."""
    from diptych.commands._pictures import show_end, show_skipped
    from diptych.serving.job import problems_of

    console.print(
        f"{len(index.entries):,} pictures in {index.folder}: {done.new:,} new, {done.changed:,} changed, "
        f"{done.gone:,} gone",
        style="dim", markup=False, highlight=False,
    )  # fmt: skip
    if done.outcome is not None:
        show_end(console, done.outcome)
    show_skipped(console, problems_of(source))


def _by_scores(
    model: Predictor, source: Source, options: argparse.Namespace, console: Console
) -> tuple[list[Answered], bool]:
    from diptych.commands._pictures import run, show_end
    from diptych.serving.job import demand_answers
    from diptych.serving.search import best, scorer

    console.print(f"{model.name} has no vectors to keep: it scores every picture for this query", style="dim")
    done: Outcome = run(model, source, scorer(model, options.query), options)
    demand_answers(done, model, source)
    show_end(console, done)
    return best(done.answered, options.top), done.stopped


def _show(
    hits: list[Answered], model: Predictor, source: Source, options: argparse.Namespace, picture: Image | None,
    console: Console,
) -> None:  # fmt: skip
    """The hits in the terminal, and in the files that were asked for."""
    from diptych.capabilities.verbs import Verb
    from diptych.commands._pictures import Told, groups, show_table
    from diptych.data.pixels.thumbnail import thumbnail
    from diptych.serving.batches import THUMBNAIL
    from diptych.serving.job import Answered
    from diptych.serving.output import write_table
    from diptych.serving.page import Page, write_page
    from diptych.serving.search import has_vectors

    show_table(console, hits)
    if options.out is not None:
        write_table(hits, options.out)
    if options.html is None:
        return
    positions = {key: index for index, key in enumerate(source.keys())}
    drawn = [
        Answered(hit.key, hit.row, thumbnail(source[positions[hit.key]].image, hit.key, THUMBNAIL)) for hit in hits
    ]
    how = "cosine of encodings" if has_vectors(model, picture is None) else model.how(Verb.SCORE)
    facts = (("pictures", options.path), ("model", model.name), ("score", how))
    told = Told(options.query or f"Like {options.picture.name}", f"The {len(hits)} best.", facts, "score")
    shown = thumbnail(picture, side=THUMBNAIL) if picture is not None else ""
    write_page(Page(told.title, told.lead, told.facts, groups(drawn, told, source), picture=shown), options.html)
