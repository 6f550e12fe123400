"""After the last epoch: the test part with the best weights, and the model that is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from kubeseg_trainer.milestones import Milestones
from kubeseg_trainer.recorder import Recorder
from kubeseg_trainer.run_directory import RunDirectory
from kubeseg_types.trainer import EpochRecord, Part

if TYPE_CHECKING:
    from kubeseg_trainer.engine.exporting import Known
    from kubeseg_trainer.engine.loop import Loop


class _Plan(NamedTuple):
    """What is to be exported, and what earlier starts left of it."""

    best: EpochRecord
    known: Known


class Completion:
    """Test and export of what `loop` has trained; `beat` says that one is alive, and may end it."""

    def __init__(
        self,
        loop: Loop,
        run: RunDirectory,
        recorder: Recorder,
        milestones: Milestones,
        beat: Callable[[], None],
    ) -> None:
        self._loop, self._run, self._recorder = loop, run, recorder
        self._milestones, self._beat = milestones, beat
        self._group = loop.around.group

    def reach(self, why: str) -> str | None:
        """Test on all ranks, export on rank 0, which gets a sentence on the outcome.

        `why` says why the training ended.
        """
        plan = self._plan() if self._group.leads else None
        test = self._tested(plan)
        return self._export(plan, test, why) if plan is not None else None

    def _plan(self) -> _Plan:
        from kubeseg_trainer.engine.exporting import known_of

        loop, run = self._loop, self._run
        run.not_superseded()
        best = loop.around.store.best_weights(loop.state.history)
        assert best.weights is not None
        known = known_of(self._recorder.record, best.weights, loop.task.content, run.model_folder)
        return _Plan(best, known)

    def _tested(self, plan: _Plan | None) -> Part | None:
        """Metrics of the test part with the best weights, on all ranks; None: there is none.

        Computed by all ranks together, unless rank 0, which alone has a `plan`, knows them.
        """
        loop = self._loop
        if loop.task.test is None:
            return None
        known = plan.known.test if plan is not None else None
        weights = plan.best.weights if plan is not None else None
        told = known.to_dict() if known is not None else None
        told, path = self._group.share([told, weights.path if weights is not None else None])
        if told is not None:
            return Part.model_validate(told)
        test = loop.evaluate_test(self._run.workspace / path)
        if plan is not None:
            loop.around.reporter.line(
                f"test  loss {test.loss:.4f}  dice {test.dice:.3f}  iou {test.iou:.3f}  "
                f"{test.samples} images, with the weights of epoch {plan.best.epoch}"
            )
        self._milestones.reach("tested", again=True)
        return test

    def _export(self, plan: _Plan, test: Part | None, why: str) -> str:
        """Make the model folder and say so in run.json; returns a sentence on the outcome."""
        from kubeseg_trainer.engine.exporting import UNDER_WAY, ExportRequest, publish

        run, loop, recorder = self._run, self._loop, self._recorder
        task, best, known = loop.task, plan.best, plan.known
        assert best.weights is not None
        earlier = recorder.record.export
        # Should the process not outlive what comes, the next start will know.
        recorder.write(export={**earlier, UNDER_WAY: best.weights.sha256})
        request = ExportRequest(
            weights=run.workspace / best.weights.path,
            best=best,
            history=loop.state.history,
            test=test,
            record=recorder.record.model_copy(update={"fingerprint": task.content}),
            why=why,
            samples=run.workspace / best.samples if best.samples else None,
            earlier=run.model_folder if known.model else None,
            earlier_report=known.report,
            complete=known.complete,
            alive=self._alive,
        )
        try:
            written, report = publish(run, lambda folder: task.export(folder, request))
        except BaseException:
            # An orderly end, whatever it is: the next start may try again.
            recorder.keep(export=earlier)
            raise
        self._milestones.reach("exported", again=True)
        recorder.write(
            model=run.relative(run.model_folder),
            model_weights=written,
            fingerprint=task.content,
            test=test,
            export=report,
        )
        tested = f"test IoU {test.iou:.4f}, " if test else ""
        return (
            f"best epoch {best.epoch}, validation IoU {best.validation.iou:.4f}, {tested}"
            f"model in {run.relative(run.model_folder)}"
        )

    def _alive(self, text: str) -> None:
        self._beat()
        self._loop.around.store.look()
        self._loop.around.reporter.step(text, 0, 1)
