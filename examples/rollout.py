"""Rollouts of a policy that learns to name digits by reward alone. Needs 'torch-np-bridge[demo]'.

The policy writes into the same tensors at each step, as a captured CUDA graph does: `snapshot=` lets it go on at once.
The rollout lies in page-locked arrays that are filled again and again by `out=`.

python examples/rollout.py [--device NAME]
"""

import argparse

import numpy as np
import torch
from rich.progress import Progress
from sklearn.datasets import load_digits

import torch_np_bridge as tnb

ROLLOUTS, STEPS, PLAYERS = 60, 8, 100
RATE = 4.0


class Policy:
    """A linear policy over ten answers, whose outputs are static buffers."""

    def __init__(self, width: int, device: torch.device) -> None:
        self.weights = torch.zeros(width, 10, device=device)
        self.shares = torch.empty(PLAYERS, 10, device=device)
        self.answers = torch.empty(PLAYERS, dtype=torch.int64, device=device)

    def act(self, images: torch.Tensor, noise: torch.Tensor) -> dict[str, torch.Tensor]:
        """Draw an answer for each image; overwrites what the step before gave."""
        scores = images @ self.weights
        self.shares.copy_(scores.softmax(dim=1))
        self.answers.copy_((scores + noise).argmax(dim=1))
        return {"shares": self.shares, "answers": self.answers}


def main() -> None:
    """Play, compute advantages in NumPy, improve the policy, and see how well it names digits."""
    parser = argparse.ArgumentParser(description="Rollouts into arrays that are used again.")
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    parser.add_argument("--device", default=str(accelerator or "cpu"))
    device = torch.device(parser.parse_args().device)
    random = np.random.default_rng(0)

    digits = load_digits()
    images = torch.from_numpy(digits.data).float().to(device) / 16
    policy = Policy(images.shape[1], device)
    rollout = {
        "shares": tnb.empty((STEPS, PLAYERS, 10), np.float32),
        "answers": tnb.empty((STEPS, PLAYERS), np.int64),
    }
    mean_rewards: list[float] = []
    with Progress() as progress:
        for _ in progress.track(range(ROLLOUTS), description="learning"):
            shown = random.integers(0, len(images), (STEPS, PLAYERS))
            noise = torch.from_numpy(random.gumbel(size=(STEPS, PLAYERS, 10)).astype(np.float32)).to(device)
            states = images[torch.from_numpy(shown).to(device)]
            transfers = []
            for step in range(STEPS):
                row = {name: array[step] for name, array in rollout.items()}
                transfers.append(tnb.to_numpy_async(policy.act(states[step], noise[step]), out=row, snapshot=True))
            for transfer in transfers:
                transfer.result()
            rewards = (rollout["answers"] == digits.target[shown]).astype(np.float32)
            mean_rewards.append(float(rewards.mean()))
            # The gradient of the expected reward, of a softmax policy.
            slopes = np.eye(10, dtype=np.float32)[rollout["answers"]] - rollout["shares"]
            slopes *= (rewards - rewards.mean())[..., None] / rewards.size
            policy.weights += RATE * states.flatten(0, 1).T @ torch.from_numpy(slopes.reshape(-1, 10)).to(device)

    first, last = sum(mean_rewards[:3]) / 3, sum(mean_rewards[-3:]) / 3
    assert last > max(0.6, 2 * first)
    print(f"{device}: the share of right answers rose from {first:.2f} to {last:.2f} in {ROLLOUTS} rollouts")


if __name__ == "__main__":
    main()
