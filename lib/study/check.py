"""Asks methods and task sources whether they can do what a params file wants, before a stage is started."""

from lib.data.folders import source
from lib.methods import method_class
from lib.settings import ParamsError, build
from lib.study.params import Study, method_of, settings_of
from lib.study.plan import tasks_of


def check(study: Study) -> None:
    """Raises ParamsError for a task that its source does not have, or a method that cannot be made with its settings.

    It loads the source and every method, which takes seconds: call it once, before stages are started.
    """
    names = getattr(source(study.tasks.source), "NAMES", None)
    for order, listed in study.tasks.orders.items():
        names = names or listed  # of a source that does not say which tasks it has, all those of the first order
        unknown = [name for name in listed if name not in names]
        if unknown:
            there = ", ".join(names)
            raise ParamsError(f"study {study.study}: tasks.orders.{order} has {', '.join(unknown)}; there are: {there}")
    for run in study.runs:
        _check_method(study, run)


def _check_method(study: Study, run: str) -> None:
    where, orders = f"study {study.study}, run {run}", study.runs[run].orders or [*study.tasks.orders][:1]
    method = method_class(method_of(run))
    if method.needs_reference and study.reference is None:
        raise ParamsError(f"{where} needs pictures of none of the tasks; add a section `reference:`")
    rates = getattr(build(method.Settings, settings_of(study, run), where), "lr", None)
    names = {name for order in orders for name in tasks_of(study, run, order)}
    if isinstance(rates, dict) and (missing := names - set(rates)):
        raise ParamsError(f"{where}: lr has no entry for task {', '.join(sorted(missing))}; it has: {', '.join(rates)}")
