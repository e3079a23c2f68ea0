"""Scenes as files: PNG pictures, and clips whose chosen frames are the scene's."""
import io
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

RATES = [8, 10, 12, 15, 24, 25, 30]


def natural_times(rng, n_frames):
    """(rate, indices of the frames that a reader at 2 frames a second chooses, times of the frame pairs)."""
    rate = rng.choice(RATES)
    total = max(n_frames, n_frames * rate // 2)
    chosen = np.linspace(0, total - 1, n_frames).round().astype(int)
    return rate, chosen, [(chosen[i] + chosen[i + 1]) / rate / 2 for i in range(0, n_frames, 2)]


def png(frame):
    packed = io.BytesIO()
    Image.fromarray(frame).save(packed, "PNG")
    return packed.getvalue()


def clip(scene, rate, chosen, path, codec=("-c:v", "ffv1", "-pix_fmt", "bgr0")):
    """Writes a clip in which frame chosen[i] is scene.frames[i]; between them the last one stays."""
    total = max(int(chosen[-1]) + 1, len(scene.frames) * rate // 2)
    at = np.searchsorted(chosen, np.arange(total), side="right") - 1
    height, width = scene.frames.shape[1:3]
    subprocess.run(["ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
                    "-r", str(rate), "-i", "-", *codec, str(path)], input=scene.frames[at].tobytes(), check=True)


def write(scene, timing, folder, name, codec=("-c:v", "ffv1", "-pix_fmt", "bgr0"), suffix="mkv"):
    """Writes the scene's media and gives their paths: a clip, or one picture or two. timing: from natural_times, for clips."""
    if timing is None:
        paths = [Path(folder) / (f"{name}.png" if len(scene.frames) == 1 else f"{name}-{i + 1}.png") for i in range(len(scene.frames))]
        for path, frame in zip(paths, scene.frames):
            path.write_bytes(png(frame))
        return paths
    path = Path(folder) / f"{name}.{suffix}"
    clip(scene, timing[0], timing[1], path, codec)
    return [path]
