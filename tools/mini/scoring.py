"""Whether an answer is right, how sure that makes a figure, and how well stated confidence fits."""
import math
import re


def numbers_of(text):
    return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", text)]


def overlap(a, b):
    """Intersection over union of two boxes as texts; 0 where one of them is no box."""
    a, b = numbers_of(a), numbers_of(b)
    if len(a) != 4 or len(b) != 4:
        return 0
    area = lambda box: max(0, box[2] - box[0]) * max(0, box[3] - box[1])
    both = area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
    return both / max(1e-9, area(a) + area(b) - both)


def edits(a, b):
    """Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def score(name, q, answer):
    """1 or 0, or of a page's text how much of it. name: the task's."""
    if q.kind == "box":
        return float(overlap(answer, q.answer) > 0.5)
    if q.tolerance:
        said, true = numbers_of(answer), numbers_of(q.answer)
        return float(len(said) == 1 and abs(said[0] - true[0]) <= q.tolerance + 1e-6)
    if name == "page" and q.kind == "read":
        return max(0.0, 1 - edits(answer, q.answer) / len(q.answer))
    return float(answer == q.answer)


def wilson(right, n, z=1.96):
    """Wilson's interval of a share, 95 %: (low, high)."""
    p, centre = right / n, right / n + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)


def binned(sure, bins=10):
    """[(mean confidence, share right, answers)] of the bins of confidence that are not empty. sure: (confidence, score) pairs."""
    out = []
    for b in range(bins):
        of_bin = [(c, r) for c, r in sure if min(bins - 1, int(c * bins)) == b]
        if of_bin:
            out.append((sum(c for c, _ in of_bin) / len(of_bin), sum(r for _, r in of_bin) / len(of_bin), len(of_bin)))
    return out


def calibration_error(sure):
    """Expected calibration error: how far confidence is from being right, over bins of confidence."""
    return sum(n * abs(c - r) for c, r, n in binned(sure)) / len(sure)
