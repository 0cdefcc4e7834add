# mypy: ignore-errors
# ruff: noqa
"""Actor model: topology, expression fields, identity shape, painted albedo, body parts, baked light transport (numpy + OpenCV only).
Head space (cm): x = image right, y = down, z = away from the camera; origin between the eyes; the face looks towards -z."""
import cv2
import numpy as np
from realtime.actors._mesh468 import MIRROR, TRIS, VERTS
from realtime.actors._raster import cross, raster
from realtime.actors._tables import BROW, BROW_D, BROW_U, EYE, EYE_D, EYE_U, LIPS, LL_IN, LL_OUT, OVAL, UL_IN, UL_OUT

F4 = np.float32
SKULL_C, SKULL_R, EYE_R, NR = np.array([0, -1.5, 9.2]), np.array([7.7, 10.2, 9.7]), 2.0, 6
PARTS = ('skin', 'ear', 'body', 'hair', 'eye', 'teeth_u', 'teeth_l', 'mouth', 'tongue', 'glasses', 'hand')

def mir(ids): return [int(MIRROR[i]) for i in ids]
def gauss(d, s): return np.exp(-(np.asarray(d) / s) ** 2)
def sstep(a, b, x): t = np.clip((np.asarray(x) - a) / (b - a), 0, 1); return t * t * (3 - 2 * t)
def bgr(rgb): return np.array(rgb[::-1], F4) / 255
def fixed(p, k=16): return np.round(np.asarray(p) * k).astype(np.int32)
def pts(*c): return np.stack(np.broadcast_arrays(*c), -1).reshape(-1, 3)

def noise(rng, h, w, cells, octaves=4, fall=0.5):
    """Value noise in about [-1, 1]; cells = (rows, cols) of the coarsest octave."""
    size = lambda o: [min(int(c * 2 ** o) + 1, m) for c, m in zip(cells, (h, w))]
    return sum(fall ** o / 1.6 * cv2.resize(rng.standard_normal(size(o)).astype(F4), (w, h), interpolation=cv2.INTER_CUBIC) for o in range(octaves))

# ---------------------------------------------------------------- topology: 468 mesh + skull rings, inner lips, lid rims; one subdivision
def grid(r, c, wrap=False):
    a = np.arange(r * c).reshape(r, c); b, a = (np.roll(a, -1, 1), a) if wrap else (a[:, 1:], a[:, :-1])
    return np.concatenate([np.stack([p.ravel() for p in t], 1) for t in ((a[:-1], b[:-1], a[1:]), (b[:-1], b[1:], a[1:]))])

def incidence(F, n):                                                # (n, k) faces around each vertex, padded with len(F)
    v = F.ravel(); o = np.argsort(v, kind='stable'); cnt = np.bincount(v, minlength=n); M = np.full((n, cnt.max()), len(F), np.int32)
    M[v[o], np.arange(len(v)) - np.repeat(np.cumsum(cnt) - cnt, cnt)] = o // 3; return M

def normals(V, F, inc):
    a = V[F[:, 0]]; N = np.concatenate([cross(V[F[:, 1]] - a, V[F[:, 2]] - a), np.zeros((1, 3), V.dtype)])[inc].sum(1)
    return N / (np.sqrt((N * N).sum(1, keepdims=True)) + 1e-9)

def extend(X):
    """468 face vertices -> control mesh: + NR skull rings (36 each) + inner lips (20) + lid rims (2 x 16)."""
    P = X[OVAL] - SKULL_C; r0 = np.linalg.norm(P, axis=1, keepdims=True); d0 = P / r0; back = np.array([0, .12, 1]) / np.hypot(.12, 1)
    om = np.arccos(d0 @ back)[:, None]; out = [X]
    for s in (.06, .16, .3, .46, .64, .84):
        d = (np.sin((1 - s) * om) * d0 + np.sin(s * om) * back) / np.sin(om); R = SKULL_R * (1 - sstep(0, .8, d[:, 1:2]) * [.12, .15, 0])
        out.append(SKULL_C + d * (r0 + (1 / np.linalg.norm(d / R, axis=1, keepdims=True) - r0) * sstep(0, .3, s)))
    out += [X[UL_IN] + [0, -.12, .75], X[LL_IN[1:-1]] + [0, .12, .75]]
    for ids in (EYE_U + EYE_D[1:-1], mir(EYE_U + EYE_D[1:-1])): c = X[ids].mean(0); out.append(c + (X[ids] - c) * .96 + [0, 0, .8])
    return np.concatenate(out)

def control_faces():
    F, n = [TRIS], 468
    for k in range(NR):
        a, b = (np.array(OVAL) if k == 0 else n - 36 + np.arange(36)), n + np.arange(36); n += 36
        F += [np.stack([a, np.roll(a, -1), b], 1), np.stack([np.roll(a, -1), np.roll(b, -1), b], 1)]
    strip = lambda a, b, flip: [np.stack(t, 1)[:, ::-1 if flip else 1] for t in ((a[:-1], b[:-1], a[1:]), (a[1:], b[:-1], b[1:]))]
    F += strip(np.array(UL_IN), np.arange(n, n + 11), False) + strip(np.array(LL_IN), np.r_[n, n + 11:n + 20, n + 10], True); n += 20
    for k, f in enumerate((list, mir)):
        F += strip(np.array(f(EYE_U)), np.arange(n, n + 9), k == 1) + strip(np.array(f(EYE_D)), np.r_[n, n + 9:n + 16, n + 8], k == 0); n += 16
    return np.concatenate(F), n

class Topo:
    F0, n0 = control_faces(); X0 = extend(VERTS)
    E, _i = np.unique(np.sort(F0[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1), axis=0, return_inverse=True); n = n0 + len(E)
    (_a, _b, _c), (_p, _q, _r) = F0.T, n0 + _i.reshape(-1, 3).T
    F = np.concatenate([np.stack(t, 1) for t in ((_a, _p, _r), (_p, _b, _q), (_r, _q, _c), (_p, _q, _r))])     # each face -> 4
    INC0, INC, ring = incidence(F0, n0), incidence(F, n), np.tile((np.arange(len(F0)) >= 852) & (np.arange(len(F0)) < 852 + 72 * NR), 4)
    adj = np.zeros((n0, n0), F4); adj[E[:, 0], E[:, 1]] = adj[E[:, 1], E[:, 0]] = 1 / (.05 + np.linalg.norm(X0[E[:, 0]] - X0[E[:, 1]], axis=1))

    @classmethod
    def fine(cls, X, flat=False):                                   # + curved edge midpoints (Phong tessellation); the 468 stay put
        (i, j), N = cls.E.T, 0 if flat else normals(X, cls.F0, cls.INC0); m, d = (X[i] + X[j]) / 2, (X[j] - X[i]) / 8
        return np.concatenate([X, m if flat else m - N[i] * (d * N[i]).sum(1, keepdims=True) + N[j] * (d * N[j]).sum(1, keepdims=True)])

    @classmethod
    def harmonic(cls, known):                                       # graph Laplace equation with {vertex: value} constraints
        Lp = np.diag(cls.adj.sum(1)) - cls.adj; k = np.array(list(known)); u = np.setdiff1d(np.arange(cls.n0), k); v = np.zeros(cls.n0)
        v[k] = list(known.values()); v[u] = np.linalg.solve(Lp[np.ix_(u, u)], -Lp[np.ix_(u, k)] @ v[k]); return v

def make_fields():                                                  # where each expression acts: a few pinned vertices, harmonic in between
    s = lambda ids, v=0.: {**dict.fromkeys(ids, v), **dict.fromkeys(mir(ids), v)}; Z = dict.fromkeys(range(504, 684), 0.)
    rows = (UL_OUT, UL_IN, list(range(684, 695))), (LL_OUT, LL_IN, [684, *range(695, 704), 694])
    base = {**Z, **s([10, 338, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 2, 98, 33, 133, 234, 127, 93, 50, 101, 205] + EYE_D + OVAL[:9])}
    jaw = {**base, **s([152, 148, 199, 200, 18], 1), 176: .98, 400: .98}
    for i, v in ((149, .93), (150, .85), (136, .72), (172, .52), (58, .3), (132, .12)): jaw.update(s([i], v))
    jaw.update({468 + k: .75 * jaw.get(i, 0) for k, i in enumerate(OVAL)})                                     # under-jaw ring follows
    for k, r in enumerate(rows[0] + rows[1]): jaw.update(zip(r, 11 * [0.] if k < 3 else (.38, .62, .82, .94, 1, 1, 1, .94, .82, .62, .38)))
    f = dict(jaw=jaw, smile={**base, **s([0, 17, 13, 14, 152, 175, 172, 150]), **s([205, 50], .25), **s([61, 78], 1)},
             cheek={**Z, **s([50, 205, 101, 118], 1), **s(OVAL + LIPS + BROW_D + [4, 1, 168, 6, 197, 195, 5, 98, 129]), **s(EYE_D, .35)},
             brow={**Z, **s(OVAL + [168, 6, 4, 50, 101] + EYE_D), **s(EYE_U, .12), **s(BROW, 1), 9: .8, 107: .8, 336: .8},
             lid={**Z, **s(OVAL + BROW_D + EYE_D + [168, 6, 8, 193, 50]), **s(EYE_U[1:-1], 1), **s([30, 29, 27, 28, 56, 247], .55),
                  **dict.fromkeys([*range(705, 712), *range(721, 728)], 1)},
             lips={**base, **s([152, 199, 175, 172]), **dict.fromkeys(sum(rows[0] + rows[1], []), 1)})
    return {k: Topo.harmonic(v).astype(F4)[:, None] for k, v in f.items()}
FIELD = make_fields()
def shape(X, p, seed=0):                                            # identity = smooth signed offsets (about -1..1) of the generic mesh
    X = X.copy(); g = lambda k: p.get(k, 0.); x, y, z = X.T.copy(); ax, sx, front = np.abs(x), np.tanh(x / .8), sstep(3.0, 0, z)
    eye, brow = gauss(ax - 3.3, 2.2) * gauss(y - .8, 1.7), gauss(y + 1.2, 1.4) * sstep(4, 1, z)
    nose, tip = gauss(ax, 1.6) * sstep(0, 4.5, y) * sstep(7, 5.4, y) * front, gauss(ax, 1.7) * gauss(y - 4.6, 1.6) * front
    mouth, cheek, chin = gauss(y - 7.6, 1.9) * gauss(ax, 4.5) * sstep(5, 2, z), gauss(ax - 5.3, 2.2) * gauss(y - 4.2, 2.2), sstep(8.5, 13, y)
    X[:, 0] += x * (.12 * g('width') + .16 * g('jaw') * sstep(4, 11.5, y) - .1 * g('taper') * chin + .3 * g('nosewidth') * tip + .22 * g('mouthwidth') * mouth)
    X[:, 0] += sx * (.28 * g('eyegap') * eye + .35 * g('cheekbone') * cheek)
    X[:, 1] += .8 * g('noselen') * nose + .9 * g('chin') * chin - .5 * g('browheight') * brow - .9 * g('forehead') * sstep(-1.5, -8, y)
    X[:, 2] -= .7 * g('nosetip') * tip + .45 * g('bridge') * gauss(ax, 1.1) * gauss(y - 1.9, 1.7) * front + .5 * g('cheekbone') * cheek
    X[:, 2] -= .6 * g('browridge') * brow * sstep(6.5, 3, ax) + .8 * g('chinout') * gauss(y - 12, 2.3) * gauss(ax, 3.5)
    for ids in (EYE, mir(EYE)):
        c = X[ids].mean(0); d = X - c; w = gauss(np.linalg.norm(d * [1, 1.4, .6], axis=1), 2.3)
        X += w[:, None] * d * [.22, .35, 0] * g('eyesize'); X[:, 1] -= w * d[:, 0] * np.sign(c[0]) * .22 * g('eyetilt')
    for O, I, s in ((UL_OUT, UL_IN, -1), (LL_OUT, LL_IN, 1)):
        for a, b in zip(O[1:-1], I[1:-1]): k = g('lips') * (1 - abs(X[a, 0]) / (abs(X[61, 0]) + .1)); X[a] += [0, s * .45 * k, -.28 * k]; X[b, 2] -= .2 * k
    rng = np.random.default_rng(seed)
    for _ in range(10): X += rng.normal(0, .06, 3) * gauss(np.linalg.norm(X - X[rng.integers(468)], axis=1), 3.5)[:, None] * [1, 1, .5]   # asymmetry
    return X

# ---------------------------------------------------------------- albedo (BGR) + gloss (A), painted in landmark space
ATLAS = (1024, 1280)
REGION = dict(skin=(0, 0, 768, 640), eye=(768, 0, 256, 256), teeth=(768, 256, 256, 128), flesh=(768, 384, 256, 64), hand=(768, 448, 256, 192),
              body=(0, 640, 640, 384), hair=(640, 640, 640, 384), frame=(1024, 0, 64, 64))
UV0 = np.stack([384 + np.arctan2(Topo.X0[:, 0], np.maximum(SKULL_C[2] - Topo.X0[:, 2], -6)) * 768 / 4.4, (Topo.X0[:, 1] + 11) / 29 * 640], 1)  # shared unwrap
def uvreg(name, u, v):
    x, y, w, h = REGION[name]; u, v = np.broadcast_arrays(u, v)
    return np.stack([x + 2 + np.clip(u, 0, 1) * (w - 5), y + 2 + np.clip(v, 0, 1) * (h - 5)], -1).reshape(-1, 2)

def spline(P, n=10, closed=False):                                  # Catmull-Rom
    P = np.asarray(P, float); t = np.linspace(0, 1, n, endpoint=False)[:, None]
    Q = np.concatenate([P[-1:], P, P[:2]] if closed else [2 * P[:1] - P[1:2], P, 2 * P[-1:] - P[-2:-1]])
    return np.concatenate([.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t ** 2 + (3 * b - a - 3 * c + d) * t ** 3)
                           for a, b, c, d in (Q[i:i + 4] for i in range(len(Q) - 3))] + ([] if closed else [P[-1:]]))

class Canvas:                                                       # float BGR + gloss image with soft-mask painting
    def __init__(s, h, w, col, gloss):
        s.c, s.g = np.ones((h, w, 3), F4) * np.asarray(col, F4), np.full((h, w), gloss, F4); s.y, s.x = np.mgrid[:h, :w].astype(F4)

    def mix(s, m, col, a=1.): s.c += (np.asarray(col, F4) - s.c) * (m * a).astype(F4)[..., None]
    def mul(s, m, col): s.c *= 1 + (np.asarray(col, F4) - 1) * np.asarray(m, F4)[..., None]
    def blob(s, c, rx, ry=None): return np.exp(-((s.x - c[0]) / rx) ** 2 - ((s.y - c[1]) / (ry or rx)) ** 2)
    def rgba(s): return np.dstack([s.c, s.g])

    def fill(s, P, blur):
        m = np.zeros_like(s.g); cv2.fillPoly(m, [fixed(spline(P, 10, True))], 1., cv2.LINE_AA, 4); return cv2.GaussianBlur(m, (0, 0), blur)

    def line(s, P, width, blur):
        m, S = np.zeros_like(s.g, np.uint8), spline(P); n, Q = len(S), fixed(S).tolist()
        for i in range(n - 1): cv2.line(m, Q[i], Q[i + 1], 255, max(1, round(width * np.sin(np.pi * (i + .5) / n) ** .5)), cv2.LINE_AA, 4)
        return cv2.GaussianBlur(m.astype(F4) / 255, (0, 0), blur)

    def strokes(s, P, D, rng):
        h, w = s.g.shape; m = np.zeros((h * 2, w * 2), np.uint8)
        for a, b in zip(fixed(P, 32).tolist(), fixed(P + D, 32).tolist()): cv2.line(m, a, b, int(rng.integers(120, 255)), 1, cv2.LINE_AA, 4)
        return cv2.resize(m, (w, h), interpolation=cv2.INTER_AREA).astype(F4) / 255

def paint_skin(p):
    rng, U, skin, g, h, w = np.random.default_rng(p['seed']), UV0, bgr(p['skin']), p.get, 640, 768; C = Canvas(h, w, skin, .42); k3 = lambda *v: np.array(v, F4)
    C.c *= 1 + .035 * noise(rng, h, w, (5, 6))[..., None] * k3(1.3, 1.1, .5); blush = g('blush', .1)
    for side in (list, mir):                                        # cheeks, eye bags, sockets, ears
        P = lambda *ids: U[side(list(ids))]; C.mul(C.blob(P(50, 205, 101).mean(0), 62, 50), 1 - blush * k3(1.2, 1.3, .1))
        C.mul(C.blob(P(230, 229, 231).mean(0) + [0, 6], 42, 15), 1 - g('bags', .08) * k3(.9, 1.2, .9)); C.mul(C.blob(P(27, 29).mean(0), 45, 16), [.9, .88, .91])
        C.mul(C.blob(P(193, 244).mean(0), 16, 22), [.89, .89, .91]); C.mul(C.blob([384 + (300 if side is list else -300), 300], 45), [.9, .9, .99])
    C.mul(C.blob(U[4], 36, 26), 1 - blush * k3(.9, 1., .1)); C.mul(C.blob(U[152], 60, 26), [.96, .96, 1])
    if g('beard'):                                                  # shaved-beard tint + stubble
        jawline, lip_top = [132, 58, 172, 136, 150, 176, 152, 400, 379, 365, 397, 288, 361], [410, 391, 2, 165, 186]
        m = C.fill(np.concatenate([U[jawline] + [0, 10], U[lip_top] + [[8, 6], [10, 0], [0, 2], [-10, 0], [-8, 6]]]), 11) * (1 - C.fill(U[LIPS], 3))
        st = sstep(.5, 1.6, 2.2 * cv2.GaussianBlur(rng.standard_normal((h, w)).astype(F4), (0, 0), .75))
        C.mix(m * (.34 + .3 * st), bgr(p['hair']) * .8 + .12, g('beard')); C.g -= .25 * m
    for _ in range(int(900 * g('freckles', 0))):
        q = np.array([384 + rng.normal(0, 78), 330 + rng.normal(0, 38)]); x, y = q.astype(int) - 3; d2 = ((np.mgrid[:7, :7].T - 3. - q % 1) ** 2).sum(-1).T
        C.c[y:y + 7, x:x + 7] *= 1 - rng.uniform(.12, .4) * np.exp(-d2 / rng.uniform(1, 2.6) ** 2)[..., None] * k3(.75, .55, .3)
    C.c *= 1 + .022 * rng.standard_normal((h, w, 1)).astype(F4) + .03 * noise(rng, h, w, (120, 140), 2)[..., None]
    for side in (list, mir):
        P = lambda *ids: U[side(list(ids))]; f = g('folds', .2); up, lo = P(*EYE_U), P(*EYE_D); out = np.sign(up[0, 0] - up[-1, 0])
        C.mul(C.line(P(129, 203, 206, 216, 212), 5, 4), 1 - f * k3(.7, .65, .5)); C.mul(C.line(P(133, 244, 233, 232, 231) + [0, 2], 4, 3), 1 - f * k3(.6, .6, .45))
        C.mul(C.line(P(226, 247, 30, 29, 27, 28, 56, 190, 243), 3, 1.4), [.59, .59, .67])                      # lid crease, lash lines
        C.mix(C.fill(P(*EYE), 1.5), skin * [.6, .58, .8], .8); C.mul(C.line(up, 5, 2), 1 - .8 * g('liner', .4) * k3(1, 1, 1))
        C.mix(C.line(up, 3, .7), [.06, .05, .07], .9); C.mul(C.line(lo, 2, 1.), [.6, .6, .68]); S = spline(up, 8)[8:-2]; fan = np.linspace(1, -.3, len(S))
        C.mix(np.minimum(1, 1.3 * C.strokes(S, np.stack([out * (3 + 4 * fan), -6 + 2 * np.abs(fan)], 1) * g('lash', .7), rng)), [.04, .04, .05], .85)
        sh = np.linspace(3, 0, 5)[:, None] * [0, 1]; bu, bd = spline(P(*BROW_U) + sh), spline(P(*BROW_D) + sh); n = int(420 * p['browdens'])   # brow hairs
        t = rng.uniform(0, 1, n); i = (t * (len(bu) - 1)).astype(int); v = rng.uniform(-1, 1, n) * p['browthick'] * (sstep(0, .35, t) * sstep(1.02, .85, t) * .75 + .25)
        B = (bu[i] + bd[i]) / 2 + (bd[i] - bu[i]) * (v * .55)[:, None]; a = np.deg2rad(12 + 62 * t ** 1.5 + rng.normal(0, 9, n))
        D = np.stack([out * np.cos(a), -np.sin(a)], 1) * rng.uniform(6, 11, n)[:, None]; m = np.minimum(1, 1.2 * C.strokes(B - D * .4, D, rng))
        C.mul(cv2.GaussianBlur(m, (0, 0), 4), 1 - .35 * p['browdens'] * k3(1, 1, 1)); C.mix(m, bgr(p['brow']), .85); C.g *= 1 - .6 * m
    for a, b in ((79, 60), (309, 290)): C.mul(C.blob((U[a] + U[b]) / 2, 7, 3.5), [.3, .3, .36])                # nostrils, then lips
    d = U[LIPS] - U[LIPS].mean(0); lip = C.fill(U[LIPS] + 3.2 * d / np.linalg.norm(d, axis=1, keepdims=True), 1.6)
    C.mix(lip, bgr(p['lips']), g('lipamt', .8)); C.mul(C.fill(U[UL_OUT + UL_IN[::-1]], 2), [.82, .8, .86])
    C.c *= 1 + (.3 * cv2.GaussianBlur(rng.standard_normal((h, w)).astype(F4), (0, 0), sigmaX=1.2, sigmaY=6) * lip)[..., None]
    C.mul(C.line((U[UL_IN] + U[LL_IN]) / 2, 3, 1.2), [.35, .3, .45]); C.mul(C.blob(U[18] + [0, 2], 30, 9), [.86, .86, .9])
    C.g += lip * g('lipgloss', .3) + .25 * C.blob(U[4], 26) + .18 * C.blob(U[151], 90, 50); C.g *= 1 + .25 * noise(rng, h, w, (60, 70), 3)
    m = sstep(-6.2, -8.2, C.y / 640 * 29 - 11 + .8 * noise(rng, h, w, (3, 50), 2)); C.mix(m, bgr(p['hair']) * .8, .9); C.g *= 1 - .7 * m   # hair roots
    return C.rgba()

def paint_atlas(p):
    A = np.zeros((*ATLAS, 4), F4); rng, g, hair, skin = np.random.default_rng(p['seed'] + 7), p.get, bgr(p['hair']), bgr(p['skin'])
    def put(name, T): x, y, w, h = REGION[name]; A[y:y + h, x:x + w] = T
    put('skin', paint_skin(p)); C = Canvas(256, 256, [.86, .88, .90], .9); x, y = C.x - 127.5, C.y - 127.5; r = np.hypot(x, y) / 1.5   # eye: r = degrees off axis
    C.mul(sstep(24, 60, r), [.72, .72, .88]); C.mix(sstep(.9, 1.6, noise(rng, 256, 256, (4, 60), 2)) * sstep(25, 60, r), [.35, .35, .75], .3)
    fib = noise(rng, 1, 256, (1, 90), 2)[0][((np.arctan2(y, x) / np.pi + 1) * 127.5).astype(int)]
    C.c += (bgr(p['eye']) * (.8 + .35 * fib + .35 * sstep(6, 13, r))[..., None] - C.c) * sstep(19, 17, r)[..., None]
    C.mul(gauss(r - 18, 2.2), [.35, .35, .38]); C.mix(sstep(8.6, 7.2, r), [.02, .02, .02]); put('eye', C.rgba())
    C = Canvas(128, 256, [.80, .88, .91], .9); tw = np.abs(((C.x - 128) / 24 + .5) % 1 - .5) * 2                # teeth, gum on top
    C.mul(sstep(.80, 1., tw), [.55, .6, .66]); C.mul(sstep(45, 115, np.abs(C.x - 128)), [.15, .15, .18]); C.mix(sstep(46, 36, C.y + 8 * tw ** 2), [.42, .42, .70])
    put('teeth', C.rgba()); C = Canvas(64, 256, [.05, .04, .10], .2); C.c[:, 128:] = [.38, .36, .66]; put('flesh', C.rgba())
    C = Canvas(192, 256, skin * .96, .35); C.c *= 1 + .05 * noise(rng, 192, 256, (5, 6))[..., None]; put('hand', C.rgba())
    C = Canvas(384, 640, skin * [.93, .95, .98], .3); C.c *= 1 + .03 * noise(rng, 384, 640, (6, 8))[..., None]
    yb, th = 7 + C.y / 384 * 33, (C.x / 640 - .5) * 4.4                                                         # body: neck skin, then cloth
    if g('beard'): C.mix(sstep(12.5, 9, yb) * sstep(1.5, .9, np.abs(th)), hair * .8 + .12, .3 * g('beard'))
    d = yb - (g('collar', 17.8) + g('vneck', 0) * gauss(th, .5) - .9 * sstep(.4, 1.4, np.abs(th))); k = sstep(-.06, .06, d)[..., None]
    cloth = bgr(p['cloth']) * (1 + .07 * noise(rng, 384, 640, (10, 14)) + .05 * np.sin(C.x * 1.1) * np.sin(C.y * 1.4))[..., None]
    C.mul(gauss(d + .2, .5), [.6, .6, .65]); C.c += (cloth - C.c) * k; C.mul(gauss(d - .9, .12), [.7, .7, .7]); C.g *= 1 - k[..., 0]; put('body', C.rgba())
    C = Canvas(384, 640, hair, .5); s, s2 = noise(rng, 384, 640, (1.2, 150), 3, .7), noise(rng, 384, 640, (1, 30), 2)                   # hair streaks
    C.c *= np.clip(1 + .42 * s + .22 * s2, .25, 2.2)[..., None]; C.mix(np.clip(s2 * .5, 0, .5), bgr(g('hair2', p['hair'])), .8)
    C.g = np.clip(.5 + .35 * s, 0, 1); put('hair', C.rgba()); put('frame', np.array([.09, .08, .08, .9], F4)); return np.clip(A * 255, 0, 255).astype(np.uint8)

# ---------------------------------------------------------------- parts
def hair_mesh(p, rng, X):
    """Star-shaped shell over the skin ('long' adds curtains to the shoulders) -> P, F, uv, tangents, loose strands."""
    long = p['style'] == 'long'; R, C = (27, 85) if long else (16, 85); lam = np.linspace(-np.pi, np.pi, C); al = np.rad2deg(np.abs(lam))
    wob = lambda k, s: np.interp(lam, lam[::k], rng.normal(0, s, len(lam[::k])))
    line = ([0, 25, 40, 50, 58, 66, 80, 180], [36, 35, 31, 22, 8, -4, -14, -30]) if long else (
        [0, 22, 36, 46, 56, 66, 74, 82, 90, 100, 112, 125, 180], [35, 36, 38, 33, 22, 8, -8, -15, -2, 5, 0, -38, -44])              # hairline elevation by azimuth
    t = np.linspace(0, 1, R)[:, None]; tc = np.clip(t * (1 + long), 0, 1); deg = 90 + (np.interp(al, *line) + wob(2, 1.2) - 90) * tc; el, part = np.deg2rad(deg), p.get('part', .15)
    td = np.clip(t * 2 - 1, 0, 1) * np.interp(al, [54, 60, 66, 74], [0, .2, .8, 1]) * (1 + .04 * wob(3, 1)) * long
    th = (1.5 if long else .75 + .9 * sstep(10, 60, deg)) + p.get('quiff', 0) * gauss(al, 50) * sstep(15, 50, deg) * sstep(90, 65, deg)
    th = th * (1 - sstep(64, 50, al) * (.98 - .98 * sstep(1.0, .62, tc))); clump = noise(rng, R, C, (1.5, 26), 2); clump[:, -1] = clump[:, 0]
    th = th + .22 * clump * np.clip(th, 0, 1) - .5 * long * gauss((lam - part) * np.cos(el), .09) * sstep(1, .6, tc) * (al < 90)
    d = np.stack([np.sin(lam) * np.cos(el), -np.sin(el), -np.cos(lam) * np.cos(el)], -1); D = X[:684] - SKULL_C; rx = np.linalg.norm(D, axis=1, keepdims=True); D = D / rx
    w = np.exp(180 * (d.reshape(-1, 3) @ D.T - 1)); rad = ((w @ np.linalg.norm(rx * D / SKULL_R, axis=1) + .05) / (w.sum(1) + .05)).reshape(R, C)          # follow the skin
    P = SKULL_C + d * (rad / np.linalg.norm(d / SKULL_R, axis=-1) + .12 + th)[..., None]; wave = .25 * np.sin(7 * td) * np.sin(lam) + .3 * np.sin(lam * 21 + 6 * td)
    P = P + np.stack([np.sin(lam) * (1.4 * td - 1.3 * td ** 2) + wave * td, 19 * td, -2.4 * td * sstep(110, 65, al) - .3 * np.cos(lam) * td], -1)
    sg = np.tanh((lam - part) / .2) * sstep(150, 60, al) * p.get('sweep', .5); T = np.gradient(P, axis=0) * (R - 1)
    T += (sg * 1.6 * tc ** .6)[..., None] * np.gradient(P, axis=1) / (lam[1] - lam[0]); T /= np.linalg.norm(T, axis=-1, keepdims=True) + 1e-6
    n, m, r0 = 200, 13 + long, R // (1 + long); c = np.where(rng.random(n) < .8, rng.integers(C // 2 - m, C // 2 + m + 1, n), rng.integers(17, C - 17, n))
    k = np.where(rng.random(n) < .8, r0 - 1 - rng.integers(0, 3, n), rng.integers(2, r0 - 3, n)); N = P[k, c] - SKULL_C; N /= np.linalg.norm(N, axis=-1, keepdims=True)
    a, ln = np.linspace(0, 1, 5)[None, :, None], rng.uniform(.6, 1.6, (n, 1, 1)) * (1 + .6 * long)
    S = P[k, c][:, None] - a * ln * (T[k, c] + rng.normal(0, .06, (n, 3)))[:, None] + N[:, None] * (.25 + a - .6 * a ** 2) * rng.uniform(.03, .15, (n, 1, 1))
    return P.reshape(-1, 3), grid(R, C), uvreg('hair', ((lam - sg * tc ** 1.6) / 2 / np.pi + .5) % 1, t), T.reshape(-1, 3), (S + rng.normal(0, .1, (n, 1, 3)), N, rng.integers(0, 4, n))
def polar(r, n): return np.meshgrid(r, np.linspace(0, 2 * np.pi, n + 1)[:-1], indexing='ij')

def ears(X):                                                        # polar height fields (helix, antihelix, concha) -> P, F, uv, occlusion
    r, ph = polar(np.linspace(0, 1, 12), 28); cp, sp = np.cos(ph), np.sin(ph); E, U = [], []
    hgt = .1 + sstep(-.6, .4, cp) * (.42 * gauss(r - .84, .12) + .26 * gauss(r - .5, .15)) - .3 * sstep(.95, 1, r) - .25 * gauss(r, .35) + .22 * gauss(cp + 1, .5) * gauss(r - .5, .3)
    for s in (-1, 1):
        b, q = r * cp * (1.55 + .35 * sp), r * sp * 2.9; E.append(pts(s * (abs(X[234, 0]) - .2 + .42 * b + .9 * hgt), 2.7 - .1 * b - .99 * q, X[234, 2] + 1.5 + .9 * b + .12 * q - .42 * hgt))
        U.append(np.stack([384 + s * (300 + 20 * r * cp), 300 - 40 * r * sp], -1).reshape(-1, 2))
    return np.concatenate(E), np.concatenate([grid(12, 28, True), grid(12, 28, True) + 336]), np.concatenate(U), np.tile((.4 + .6 * sstep(.2, .8, r) - .25 * gauss(r - .66, .07)).ravel(), 2)

def torso(p):
    y = np.array([2.5, 5, 8, 10, 12, 14, 15.5, 16.5, 17.3, 18, 18.8, 19.8, 21, 22.5, 24.5, 27, 31, 36, 42])[:, None]; k = p.get('build', 1.)
    th = np.linspace(-np.pi, np.pi, 49); fx = np.sign(np.sin(th)) * np.abs(np.sin(th)) ** .8; cz = np.interp(y, [6.5, 12, 17, 24], [9.8, 10.6, 11.6, 12])
    rx = k * np.interp(y, [2.5, 8, 14, 16, 17.5, 19, 21, 24, 30, 42], [5.3, 5.2, 5.5, 6.2, 8.2, 12, 15.8, 18.6, 20, 21])
    rz = k * np.interp(y, [2.5, 8, 14, 17, 20, 24, 30, 42], [5.6, 5.5, 5.7, 6.2, 6.8, 8.3, 9.8, 10.5])
    P = pts(rx * fx, y + 1.4 * sstep(17, 21, y) * np.abs(fx) ** 2.2, cz - rz * np.cos(th) - .35 * gauss(th, .28) * gauss(y - 17.2, .9))
    return P, grid(len(y), 49), uvreg('body', th / 4.4 + .5, (y - 7) / 33)

def tube(path, r, k=8, closed=False):
    P = np.asarray(path, float); T = np.roll(P, -1, 0) - np.roll(P, 1, 0) if closed else np.gradient(P, axis=0); unit = lambda v: v / np.linalg.norm(v, axis=1, keepdims=True)
    a = unit(np.cross(T, [.3, .2, 1.])); b = unit(np.cross(T, a)); ph = np.linspace(0, 2 * np.pi, k + 1)[:-1, None]
    V = P[:, None] + np.broadcast_to(r, len(P))[:, None, None] * (np.cos(ph) * a[:, None] + np.sin(ph) * b[:, None]); V = np.concatenate([V, V[:1]]) if closed else V
    return V.reshape(-1, 3), grid(len(V), k, True)
def merge(parts):
    n = np.cumsum([0] + [len(v) for v, _ in parts]); return np.concatenate([v for v, _ in parts]), np.concatenate([f + o for (_, f), o in zip(parts, n)])

def glasses(eyes, Y):
    t = np.linspace(0, 2 * np.pi, 33)[:-1]; e = lambda v: np.sign(v) * np.abs(v) ** .7; z = Y[[168, 6], 2].mean() - .75; out = [tube([[-.85, .7, z], [0, .45, z - .15], [.85, .7, z]], .16)]
    for s, c in zip((-1, 1), eyes):
        x = c[0] + s * .15 + 2.55 * e(np.cos(t)); out.append(tube(pts(x, c[1] + .35 + 1.9 * e(np.sin(t)), z + .02 * x ** 2), .17, 6, True))
        out.append(tube([[s * 5.9, c[1] - .4, z + .75], [s * 7.3, c[1] - .3, 3.], [s * 8., c[1], 9.5]], .17))
    return merge(out)

def hand_mesh():
    def cap(P, r): P = np.concatenate([2 * P[:1] - P[1:2], P, P[-1:] + (P[-1:] - P[-2:-1]) * .12]); return tube(P, np.r_[.05, r, .05], 10)
    t = np.linspace(0, 1, 7); out = [cap(pts(0, 4 + 16 * t, .4 * t), np.linspace(2.7, 3.4, 7)), cap(pts(-3.2 - 3.6 * t, 2.6 - 5 * t, -.8 * np.sin(2 * t)), np.linspace(1.4, .7, 7))]
    for x, dx, l in ((-3.1, -1.4, 6.3), (-1.1, -.5, 7.6), (1., .3, 7.3), (2.9, 1.2, 5.8)):
        out.append(cap(pts(x + dx * t, -3 - l * t, .9 * t ** 2), np.array([1.0, .94, .87, .9, .83, .8, .62])))
    th, ph = polar(np.linspace(0, np.pi, 13), 20); e = lambda v: np.sign(v) * np.abs(v) ** .75
    return merge(out + [(pts(4.4 * e(np.sin(th)) * e(np.cos(ph)), 1.2 - 5.6 * e(np.cos(th)), 1.5 * np.sin(th) * np.sin(ph)), grid(13, 20, True)[:, ::-1])])

class Actor:
    """One identity. Actor(A) is person A; Actor(A, body=B, tone=k) wears A's face (shape inside the oval, skin, eyes, teeth) on B's
    head, hair and body: the exact ideal face swap. tone (0..1) pulls A's mean skin colour towards B's."""
    def __init__(s, p, body=None, tone=0.):
        q = body or p; s.p, s.q, rng = p, q, np.random.default_rng(q['seed'] + 3); s.atlas = paint_atlas(q); X = Xb = shape(VERTS, q['shape'], q['seed'])
        if body is not None: X = s.hybrid(shape(VERTS, p['shape'], p['seed']), Xb, tone)
        s.X0 = X = extend(X); Xb = extend(Xb); Y = Topo.fine(X); V, FS, UV, TG, s.sl, s.n = [], [], [], [], {}, 0; rear = lambda c: c + [0, 0, 5]

        def add(name, P, F, uv, T=None, centre=None):               # centre(points): orient faces away from it
            if centre is not None: c = P[F]; bad = (cross(c[:, 1] - c[:, 0], c[:, 2] - c[:, 0]) * (c.mean(1) - centre(c.mean(1)))).sum(1) < 0; F = np.where(bad[:, None], F[:, ::-1], F)
            V.append(P); FS.append(F + s.n); UV.append(uv); TG.append(P * 0 if T is None else T); s.sl[name] = slice(s.n, s.n + len(P)); s.n += len(P)
        add('skin', Y, Topo.F, np.clip(Topo.fine(UV0, True), 1, [766, 638])); E, F, U, ear_occ = ears(Xb); add('ear', E, F, U, None, lambda c: c * [.8, 1, 1])
        add('body', *torso(q), None, lambda c: c * [0, 1, 0] + [0, 0, 11]); *H, s.strands = hair_mesh(q, rng, Xb); add('hair', *H, lambda c: SKULL_C + [0, 1, 0] * np.maximum(c - [0, 3, 0], 0))
        th, ph = polar(np.deg2rad([0, 4, 8, 13, 17, 19, 24, 32, 42, 54, 66, 78]), 28); s.eye_n = pts(np.sin(th) * np.cos(ph), np.sin(th) * np.sin(ph), -np.cos(th)).astype(F4); k = th / np.deg2rad(170)
        s.eye_c = [Y[[f(EYE)[k] for k in (3, 4, 5, 11, 12, 13)]].mean(0) + F4([0, 0, EYE_R - .12]) for f in (list, mir)]
        add('eye', np.concatenate([EYE_R * s.eye_n + c for c in s.eye_c]), np.concatenate([grid(12, 28, True), grid(12, 28, True) + 336]),
            np.tile(uvreg('eye', .5 + k * np.cos(ph), .5 + k * np.sin(ph)), (2, 1)), None, lambda c: np.where(c[:, :1] < 0, s.eye_c[0], s.eye_c[1]))
        s.mouth = m = Y[[13, 14]].mean(0); u, v = np.meshgrid(np.linspace(-1, 1, 17), np.linspace(0, 1, 5)); z = m[2] + .7 + .34 * (2.3 * u) ** 2
        add('teeth_u', pts(1.9 * u, m[1] - .95 + 1.25 * v, z - .1 * v), grid(5, 17), uvreg('teeth', u / 2 + .5, v), None, rear)
        add('teeth_l', pts(1.7 * u, m[1] + 1.15 - v, z + .2 - .1 * v), grid(5, 17), uvreg('teeth', u / 2 + .5, v), None, rear)
        u, v = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9)); dome = 2.8 * np.clip(1 - u ** 2 - v ** 2, 0, 1)
        add('mouth', pts(2.6 * u, m[1] + 1.6 * v, m[2] + 1.3 + .17 * (2.6 * u) ** 2 + dome), grid(9, 9), uvreg('flesh', .1 + 0 * u, .5), None, rear); th, ph = polar(np.linspace(0, 1.5, 7), 16)
        add('tongue', m + [0, 1.25, 2.6] + pts(1.7 * np.sin(th) * np.cos(ph), .55 * np.sin(th) * np.sin(ph), -1.5 * np.cos(th)), grid(7, 16, True), uvreg('flesh', .8 + 0 * th, .5), None, rear)
        G, F = glasses(s.eye_c, Y) if q.get('glasses') else (np.zeros((0, 3)), np.zeros((0, 3), int)); add('glasses', G, F, uvreg('frame', np.full(len(G), .5), .5)); nh = s.n
        H, F = hand_mesh(); add('hand', H, F, uvreg('hand', H[:, 0] / 14 + .5, H[:, 1] / 20 + .5)); s.F = np.concatenate(FS).astype(np.int32)
        s.V, s.UV, s.T = (np.concatenate(a).astype(F4) for a in (V, UV, TG)); s.fpart, s.vpart = (np.repeat(np.arange(len(PARTS), dtype=np.uint8), [len(x) for x in a]) for a in (FS, V))
        s.two, s.skin, s.inner = np.isin(s.fpart, [1, 3, 5, 6, 7, 9, 10]), np.isin(s.vpart, [0, 1, 10]), np.isin(s.fpart, [4, 5, 6, 7, 8]); s.inner[:len(Topo.F)] = ~Topo.ring
        s.N = normals(s.V, s.F, incidence(s.F, s.n)); s.bw = np.select([s.vpart == 2, s.vpart == 3], [sstep(8, 17, s.V[:, 1]), .8 * sstep(9, 20, s.V[:, 1])], 0).astype(F4)
        s.bent = np.flatnonzero(s.bw > 0); s.bake(nh, ear_occ)      # bw: how much a vertex follows the body instead of the head

    def hybrid(s, Xa, Xb, tone):
        on = [168, 6, 4, 2, 13, 14, 18, 50, 205, 200] + LIPS + EYE + BROW; Ta = paint_atlas(s.p)
        w = Topo.harmonic({**dict.fromkeys(OVAL + list(range(468, 684)), 0.), **dict.fromkeys(on + mir(on), 1.)})[:468, None]
        for name in ('skin', 'eye', 'teeth'):
            x, y, wd, h = REGION[name]; fa, fb, m = Ta[y:y + h, x:x + wd].astype(F4), s.atlas[y:y + h, x:x + wd], np.ones((h, wd, 1), F4)
            if name == 'skin':
                m[:] = 0; cv2.fillPoly(m, [fixed(UV0[OVAL], 1)], 1.); m = cv2.GaussianBlur(cv2.erode(m, np.ones((25, 25))), (0, 0), 9)[..., None]
                fa[..., :3] *= 1 + tone * ((fb[..., :3] * m).sum((0, 1)) / (fa[..., :3] * m).sum((0, 1)) - 1)
            fb[:] = np.clip(fb + (fa - fb) * m, 0, 255)
        return Xb + (Xa - Xb) * w

    def bake(s, nh, ear_occ, D=96, res=4.5, S=44):
        """Light transport: per-vertex visibility towards D directions from depth maps; also finds faces no camera can ever see."""
        k = np.arange(D) + .5; phi, cz = np.pi * (1 + 5 ** .5) * k, 1 - 2 * k / D; sz = np.sqrt(1 - cz ** 2); s.dirs = np.stack([np.cos(phi) * sz, np.sin(phi) * sz, cz], 1).astype(F4)
        F, C, W, ndd = s.F[s.fpart < 10], s.V[:nh] - F4([0, 4, 9]), int(S * res), s.N @ s.dirs.T; s.vis, seen = np.ones((s.n, D), F4), np.zeros(s.n, bool)
        for j, d in enumerate(s.dirs):                              # d points towards the light
            a = np.cross(d, [.01, 1, .02]); a /= np.linalg.norm(a); P = np.stack([(C @ a + S / 2) * res, (C @ np.cross(d, a) + S / 2) * res, C @ d], 1).astype(F4)
            buf, f, T = raster(P, F, W, W, np.ones(len(F), bool)); zb = np.r_[T[:, :, 2].mean(1), F4(-1e9)][buf].reshape(W, W)
            gap = cv2.remap(zb, P[None, :, 0] - F4(.5), P[None, :, 1] - F4(.5), cv2.INTER_NEAREST, borderValue=-1e9)[0] - P[:, 2]
            s.vis[:nh, j] = np.where(ndd[:nh, j] > .05, sstep(.85, .35, gap), 1); seen[:nh] |= (gap < .6) & (d[2] < -.5)
        s.keep = seen[s.F].any(1) | s.inner | ~np.isin(s.fpart, [0, 3]) | (s.V[s.F, 1] > 0).any(1); s.vis[s.sl['eye']] = 1; cw = np.maximum(ndd, 0)
        s.trans = s.vis * cw / cw.sum(1, keepdims=True); s.trans[s.sl['ear']] *= ear_occ[:, None]
