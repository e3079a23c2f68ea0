"""Makes tests/golden/gguf/blocks.gguf: for every block type that is read, a matrix of random bytes
(scales kept finite) and what PyPI's gguf makes of it in float32.

    pip install gguf numpy
    python tests/golden/make_gguf.py
"""
import pathlib

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, GGUFWriter
from gguf.quants import dequantize

ROWS, WIDTH = 3, 512  # three rows, so that a panel has an end
# Where the f16 numbers of a block stand.
FLOATS = {T.Q8_0: [0], T.Q4_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_XS: [0]}

random = np.random.default_rng(20261121)
out = pathlib.Path(__file__).parent / "gguf" / "blocks.gguf"
out.parent.mkdir(exist_ok=True)
writer = GGUFWriter(out, "blocks")
writer.add_description("random blocks of every type, and their values")
for kind, places in FLOATS.items():
    block, size = GGML_QUANT_SIZES[kind]
    data = random.integers(0, 256, (ROWS, WIDTH // block, size), dtype=np.uint8)
    for place in places:
        scales = random.normal(0, 0.02, data.shape[:2]).astype(np.float16)
        scales[0, 0] = 0
        data[:, :, place : place + 2] = scales.view(np.uint8).reshape(*data.shape[:2], 2)
    data = data.reshape(ROWS, -1)
    writer.add_tensor(kind.name, data, raw_dtype=kind)
    writer.add_tensor(kind.name + ".values", dequantize(data, kind).astype(np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
print(out, out.stat().st_size, "bytes")
