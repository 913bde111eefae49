"""How well does a sigmoid network, trained with the hand-written gradient, read real 8x8 digits it has not seen?

Of 1,797 images, a fifth is held out at random, and every class keeps its share. The network is 64-64-10 with softmax
and cross-entropy. It is trained by adam at 0.005 for 60 epochs in batches of 32. There are five splits, each with its
own initial weights and batches.

Answer: 97.8 % of the test images on average, from 97.5 to 98.3 % (6 to 9 of 359 are misread). In four of five runs, all
training images are read correctly (jax 0.10.2, CPU).
"""

import numpy as np
from _command import picture_folder

from handprop.cli import demo, plots

SEEDS = range(5)


def main() -> int:
    out = picture_folder(__doc__)
    runs = [demo.learn_digits(seed) for seed in SEEDS]
    print(f"{'seed':>4} {'train':>8} {'test':>8} {'misread':>10}")
    for seed, run in zip(SEEDS, runs, strict=True):
        misread = f"{(run.read != run.labels).sum()} of {len(run.labels)}"
        print(f"{seed:>4} {run.train_accuracy[-1]:>8.2%} {run.test_accuracy[-1]:>8.2%} {misread:>10}")
    final = [run.test_accuracy[-1] for run in runs]
    print(f"test accuracy: mean {np.mean(final):.2%}, lowest {min(final):.2%}, highest {max(final):.2%}")
    train = np.mean([run.train_accuracy for run in runs], axis=0)
    test = np.mean([run.test_accuracy for run in runs], axis=0)
    plots.save(plots.accuracy_curve(range(1, len(test) + 1), train, test), out / "digits.png")
    return 0 if min(final) >= demo.ACCURACY else 1


if __name__ == "__main__":
    raise SystemExit(main())
