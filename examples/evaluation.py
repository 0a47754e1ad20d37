"""An evaluation loop: scores from the device, metrics by scikit-learn. Needs 'torch-np-bridge[demo]'.

python examples/evaluation.py [--device NAME]
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from rich.progress import track
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

import torch_np_bridge as tnb

BATCH = 64
TRAINING = 900


def classifier(images: np.ndarray, labels: np.ndarray) -> torch.nn.Module:
    """A linear model, trained by scikit-learn."""
    trained = LogisticRegression(max_iter=300).fit(images, labels)
    model = torch.nn.Linear(images.shape[1], len(trained.classes_))
    model.load_state_dict({"weight": torch.tensor(trained.coef_), "bias": torch.tensor(trained.intercept_)})
    return model


def main() -> None:
    """Train on one half of the images and evaluate on the other."""
    parser = argparse.ArgumentParser(description="Metrics of a classifier of images.")
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    parser.add_argument("--device", default=str(accelerator or "cpu"))
    device = torch.device(parser.parse_args().device)

    digits = load_digits()
    images = (digits.data / 16).astype(np.float32)
    model = classifier(images[:TRAINING], digits.target[:TRAINING]).to(device)
    rest = torch.utils.data.TensorDataset(torch.tensor(images[TRAINING:]), torch.tensor(digits.target[TRAINING:]))
    loader = torch.utils.data.DataLoader(rest, batch_size=BATCH)

    @torch.inference_mode()
    def outputs() -> Iterator[dict[str, torch.Tensor]]:
        for batch, labels in loader:
            shares = model(batch.to(device)).softmax(dim=1)
            yield {"shares": shares, "best": shares.argmax(dim=1), "labels": labels}

    # Each batch is copied while the next one is computed; the labels, on the CPU, are shared and not copied.
    collected = list(track(tnb.prefetch_to_host(outputs()), total=len(loader), description="evaluating"))
    arrays = {name: np.concatenate([batch[name] for batch in collected]) for name in collected[0]}

    labels, shares = arrays["labels"], arrays["shares"]
    accuracy = accuracy_score(labels, arrays["best"])
    area = roc_auc_score(labels, shares, multi_class="ovr")
    worst = min(range(10), key=lambda digit: accuracy_score(labels[labels == digit], arrays["best"][labels == digit]))
    assert len(labels) == len(rest)
    assert accuracy > 0.85
    print(f"{device}: {len(labels)} images, accuracy {accuracy:.3f}, loss {log_loss(labels, shares):.3f}")
    print(f"area under the curve {area:.4f}; the digit that is recognised least is {worst}")


if __name__ == "__main__":
    main()
