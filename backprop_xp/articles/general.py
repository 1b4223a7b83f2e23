"""The general example: a net, its samples, and one or more epochs of training."""

from typing import Any

from .nets import Arithmetic, Inputs, Model, Number, Samples, SampleValues, model, transposed, weighted


def net(inputs: Inputs, arithmetic: Arithmetic) -> dict[str, Any]:
    """All steps of an example, and its outputs and losses afterwards.

    The mode 'per_sample' makes an update after each sample; 'batch_mean' and 'batch_sum' make one
    update from all samples. `flow` is our e of each node; W and grad_W are out × in.
    """
    now, names = model(inputs, arithmetic), tuple(weighted(inputs["layers"]))
    frozen = () if inputs.get("update_biases", True) else tuple(f"{v}.b" for v in names)
    samples = [(sample["x"], sample["y"]) for sample in inputs["samples"]]
    steps: list[dict[str, Any]] = []
    for epoch in range(inputs.get("epochs", 1)):
        batches = [[s] for s in samples] if inputs["mode"] == "per_sample" else [samples]
        for number, batch in enumerate(batches):
            if inputs["mode"] == "per_sample":
                step = {**_one(now.sample(*batch[0]), names), "sample": number, "epoch": epoch}
            else:
                step = {**_all(now, batch, names), "epoch": epoch}
            now = now.step(batch, frozen)
            steps.append({**step, **_out_by_in(now.weights, names, "W_after", "b_after")})
    return {"steps": steps, "after": after(now, samples)}


def _one(seen: SampleValues, names: tuple[str, ...]) -> dict[str, Any]:
    flow = [seen.e[k] for k in sorted(seen.e)]
    return {"outputs": seen.o, "loss": seen.loss, "flow": flow, **_out_by_in(seen.grad, names)}


def _all(now: Model, batch: Samples, names: tuple[str, ...]) -> dict[str, Any]:
    loss, grad = now.batch(batch)
    each = [_one(now.sample(*sample), names) for sample in batch]
    return {"per_sample": each, "loss": loss, **_out_by_in(grad, names)}


def _out_by_in(
    blocks: dict[str, Any], names: tuple[str, ...], w: str = "grad_W", b: str = "grad_b"
) -> dict[str, Any]:
    return {w: [transposed(blocks[f"{v}.w"]) for v in names], b: [blocks.get(f"{v}.b") for v in names]}


def after(now: Model, samples: Samples) -> dict[str, Any]:
    """Outputs and losses of all samples, and the losses' sum and mean."""
    xp, losses = now.arithmetic.xp, now.losses(samples)
    array, plain = now.arithmetic.array(losses), now.arithmetic.plain
    total, mean = (plain(reduce(array)) for reduce in (xp.sum, xp.mean))
    outputs: list[list[Number]] = [now.sample(*sample).o[-1] for sample in samples]
    return {"outputs": outputs, "losses": losses, "loss_sum": total, "loss_mean": mean}
