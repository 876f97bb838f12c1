"""A classifier of pictures as a task: the network that samples are judged by, which no generator ever saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from codebound.data.augment import Augmentation, augmented
from codebound.data.batch_stream import BatchStream
from codebound.data.image_sets import ImageSet
from codebound.engine.recipe import Schedule
from codebound.engine.task import Figures, OptimizerPlan, ParameterGroup, Score, StepLosses, Task
from codebound.evaluate.classifier import PictureClassifier

LabelledBatch = tuple[Tensor, Tensor]


class ClassifierOptimization(Augmentation):
    """How a classifier is trained, besides the loop's settings, and what is done to its pictures."""

    lr: float = Field(default=3e-3, ge=0, allow_inf_nan=False)
    warmup: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=0.02, ge=0, allow_inf_nan=False)
    clip: float = Field(default=1.0, ge=0, allow_inf_nan=False)


class ClassifierTask(Task[LabelledBatch]):
    """A `PictureClassifier` on a set with classes."""

    kind = "classifier"
    unit = "images"
    score = Score("accuracy", "higher")
    averaged = ("classifier",)

    def __init__(
        self, classifier: PictureClassifier, images: ImageSet, settings: ClassifierOptimization
    ) -> None:
        self.classifier, self.images, self.settings = classifier, images, settings
        self.modules: Mapping[str, nn.Module] = {"classifier": classifier}

    def optimizers(self) -> Mapping[str, OptimizerPlan]:
        """Kernels and matrices, which decay; all others, which don't."""
        settings, parameters = self.settings, list(self.classifier.parameters())
        schedule = Schedule(peak=settings.lr, warmup=settings.warmup)
        groups = [
            ParameterGroup([p for p in parameters if p.ndim > 1], schedule, settings.weight_decay),
            ParameterGroup([p for p in parameters if p.ndim <= 1], schedule),
        ]
        return {"classifier": OptimizerPlan(groups, (0.9, 0.99), settings.clip)}

    def batches(self, seed: int, first_step: int, size: int) -> BatchStream[LabelledBatch]:
        """Pictures, augmented, with their classes."""

        def labelled(batch: Tensor, step: int) -> LabelledBatch:
            return augmented(batch, self.settings, seed, step), self.images.labels(seed, step, size)

        return self.images.batches(seed, first_step, size).map(labelled, first_step)

    def initialise(self, batches: Iterator[LabelledBatch], devices: int) -> None:
        """Nothing begins from data."""

    def losses(self, batch: LabelledBatch, step: int) -> StepLosses:
        """Cross-entropy."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self.classifier(self.classifier.to_network(images)), labels)
        return StepLosses({"classifier": loss}, {"loss": loss})

    def evaluate(self) -> Figures:
        """Accuracy on held-out pictures."""
        device = next(self.classifier.parameters()).device
        found = self.classifier.probabilities(self.images.held_out.to(device)).argmax(1).cpu()
        return {"accuracy": float((found == self.images.held_out_labels).double().mean())}

    def standardise(self, seed: int, pictures: int = 2048) -> None:
        """Features as `centre_` has them, by a batch of training pictures."""
        device = next(self.classifier.parameters()).device
        with torch.no_grad():
            self.classifier.centre_(self.images.batch(seed, 0, pictures).to(device))
