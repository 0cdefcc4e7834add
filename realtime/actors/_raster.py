# mypy: ignore-errors
# ruff: noqa
"""Vectorised span rasteriser (numpy): depth-sorted painter at span granularity, i.e. a z-buffer up to ~1e-5 of the depth range."""
import numpy as np

F4, I4 = np.float32, np.int32

def cross(a, b):
    return np.stack([a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1], a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2],
                     a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]], 1)

def raster(P, F, W, H, two):
    """P (V,3) float32 = screen x, y, nearness; F faces; two = double-sided flags.
    -> per pixel (H*W) index into f or -1; f = ids of the faces drawn; their corners (len(f),3,3)."""
    T = P[F]; X, Y = T[:, :, 0], T[:, :, 1]; (x0, x1, x2), (y0, y1, y2) = X.T, Y.T; area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    top = np.ceil(np.clip(np.minimum(np.minimum(y0, y1), y2), 0, H) - F4(.5)).astype(I4)
    n = np.ceil(np.clip(np.maximum(np.maximum(y0, y1), y2), 0, H) - F4(.5)).astype(I4) - top
    f = np.flatnonzero(((area < -1e-5) | (two & (area > 1e-5))) & (n > 0) & (np.maximum(np.maximum(x0, x1), x2) > 0)
                       & (np.minimum(np.minimum(x0, x1), x2) < W))
    T, area, top, n = T[f], area[f], top[f], n[f]; K = len(f)
    a, b, c = T[np.arange(K)[:, None], np.argsort(T[:, :, 1], 1)].transpose(1, 2, 0)                 # corners by y
    with np.errstate(divide='ignore', invalid='ignore'):
        s = [np.nan_to_num((q[0] - p[0]) / (q[1] - p[1]), nan=0, posinf=0, neginf=0) for p, q in ((a, c), (a, b), (b, c))]
    (e1, e2) = (T[:, k] - T[:, 0] for k in (1, 2))
    zx, zy = (e1[:, 2] * e2[:, 1] - e2[:, 2] * e1[:, 1]) / area, (e2[:, 2] * e1[:, 0] - e1[:, 2] * e2[:, 0]) / area
    row = np.stack([a[0] - a[1] * s[0], s[0], a[0] - a[1] * s[1], s[1], b[0] - b[1] * s[2], s[2], b[1], a[2] - zx * a[0] - zy * a[1], zx, zy])
    t = np.repeat(np.arange(K, dtype=I4), n); r = np.arange(len(t), dtype=I4) - np.repeat(np.cumsum(n, dtype=I4) - n - top, n)
    y = r.astype(F4) + F4(.5); Q = np.take(row, t, axis=1); xa = Q[0] + y * Q[1]; xb = np.where(y < Q[6], Q[2] + y * Q[3], Q[4] + y * Q[5])
    xs = np.ceil(np.clip(np.minimum(xa, xb), 0, W) - F4(.5)).astype(I4); m = np.ceil(np.clip(np.maximum(xa, xb), 0, W) - F4(.5)).astype(I4) - xs
    z = Q[7] + Q[8] * (xs.astype(F4) + F4(.5) * m.astype(F4)) + Q[9] * y; k = np.flatnonzero(m > 0); z = z[k]
    k = k[np.argsort(((z - z.min()) * F4(65535 / max(np.ptp(z), 1e-9))).astype(np.uint16), kind='stable')]   # radix sort, far first
    m = m[k]; idx = np.repeat(r[k] * I4(W) + xs[k] - (np.cumsum(m, dtype=I4) - m), m); idx += np.arange(len(idx), dtype=I4)
    buf = np.full(W * H, -1, I4); buf[idx] = np.repeat(t[k], m)                                              # last write = nearest
    return buf, f, T
