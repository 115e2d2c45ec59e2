"""The losses of the base and each expert on a text of each expert."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from cuvee.calibrate.calibrate import calibrate  # first, for it says which extra is missing

# isort: split
from cuvee.calibrate.collect import Collecting
from cuvee.errors import EvaluationError
from cuvee.evaluation.model import Device
from cuvee.hub import Hub
from cuvee.progress import Progress, Silent


def losses_on(
    models: Sequence[str], texts: Sequence[str], *, tokens: int, device: Device, hub: Hub, progress: Progress
) -> tuple[tuple[float, ...], ...]:
    """Return the mean loss of each model on each text [models][texts], in nats a token of the answers.

    One block of one model is in memory at a time. Raises CuveeError for models and texts that cannot be read.
    """
    how = Collecting(keep=("mean",))
    rows = []
    progress.start("read texts", len(models) * len(texts), "texts")
    for model in models:
        row = []
        for text in texts:
            with TemporaryDirectory(prefix="cuvee-suggest-") as folder:
                out = Path(folder) / "statistics"
                record = calibrate(model, text, out, how, tokens=tokens, device=device, hub=hub, progress=Silent())
            if record.loss is None:
                raise EvaluationError("no token of it is predicted", where=text, hint="give documents of two tokens")
            row.append(record.loss)
            progress.advance(1)
        rows.append(tuple(row))
    progress.finish()
    return tuple(rows)
