"""Weights of GAN networks by tensor name: `golden_weights.py` with the scales that these networks are made for.

`normal(name, shape)` is weights.py's generator: sha256 of the name, PCG64, standard_normal in float32. The functions
below say what a state-dict entry is of it. Nothing is random but the name.
"""

import hashlib

import numpy as np

F32 = np.float32


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 standard normal values for a name, the same on every machine."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, dtype=np.float32)


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(seed)).uniform(0.5, 2.0, shape).astype(np.float32)


def stylegan2(prefix: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """An entry of a StyleGAN2 generator's state dict (`g_ema`, or `decoder.` without that), or its `latent_avg`."""
    n = normal(f"{prefix}/{key}", shape)
    if key == "latent_avg":
        return F32(0.3) * n
    if key.endswith("kernel"):  # of blur and upsample: [1, 3, 3, 1] x [1, 3, 3, 1] / 64, times 4: every one upsamples
        taps = np.array([1, 3, 3, 1], np.float32)
        return np.outer(taps, taps) / F32(64) * F32(4)
    if key.startswith("style."):  # the mapping network, whose learning rate multiplier is 0.01
        return F32(100) * n if key.endswith("weight") else F32(10) * n
    if key.endswith("modulation.bias"):
        return 1 + F32(0.1) * n
    if key.endswith("noise.weight"):
        return F32(0.2) + F32(0.05) * n
    if key.startswith("to_rgb") and key.endswith(".conv.weight"):
        return F32(0.3) * n
    if key.endswith("bias"):
        return F32(0.1) * n
    return n  # convolutions, modulation.weight, input.input, noises.noise_i


def stylegan1(prefix: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """An entry of DatasetGAN's StyleGAN state dict (`g_all`), its `avg_latent`, or a noise input `noise_i`."""
    n = normal(f"{prefix}/{key}", shape)
    if key == "avg_latent":
        return F32(0.3) * n
    if key.endswith("kernel"):  # of blur: [1, 2, 1] x [1, 2, 1] / 16
        taps = np.array([1, 2, 1], np.float32)
        return (np.outer(taps, taps) / F32(16)).reshape(shape)
    if key.startswith("g_mapping."):
        return F32(100) * n if key.endswith("weight") else F32(10) * n
    if key.endswith("noise.weight"):
        return F32(0.2) + F32(0.05) * n
    if key.endswith("const"):
        return 1 + F32(0.3) * n
    if key.endswith("torgb.weight"):
        return F32(0.3) * n
    if key.endswith("bias"):
        return F32(0.1) * n
    return n  # convolutions, style_mod.lin.weight, noise_i


def encoder(prefix: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """An entry of a pSp or e4e encoder's state dict (`encoder.` without that)."""
    name = f"{prefix}/{key}"
    if key.endswith("running_var"):
        return uniform(name, shape)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    n = normal(name, shape)
    if key == "input_layer.2.weight" or key.endswith("res_layer.2.weight"):  # slopes of PReLU
        return F32(0.25) + F32(0.05) * n
    if key.startswith("styles.") and key.endswith("linear.weight"):  # divided by sqrt(fan in) as the network runs
        return n
    if len(shape) > 1:
        gain = F32(2) if key.startswith("styles.") else F32(1)
        return gain * n / np.sqrt(np.prod(shape[1:], dtype=np.float32))
    if key.endswith(".weight"):  # of batch norms
        return 1 + F32(0.1) * n
    return F32(0.1) * n  # biases, running means
