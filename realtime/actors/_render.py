# mypy: ignore-errors
# ruff: noqa
"""Per-frame rendering: expression, pose, light, occluder -> image + ground truth; and a deterministic motion generator."""
import cv2
import numpy as np
from realtime.actors._model import EYE_R, F4, FIELD, PARTS, Topo, bgr, fixed, gauss, mir, normals, sstep
from realtime.actors._raster import raster
from realtime.actors._tables import EYE_D, EYE_U

NEUTRAL = dict(yaw=0, pitch=0, roll=0, tx=0, ty=0, tz=0, jaw=0, smile=0, brow=0, frown=0, blink_l=0, blink_r=0, pucker=0, gaze_x=0,
               gaze_y=0, light_az=-35, light_el=35, key=1.0, ambient=.5, kelvin=5600, occ=0, occ_x=0, occ_y=0, occ_r=0)
JAW_DEG, HINGE, PIVOT = 18., np.array([0, 3.2, 9.], F4), np.array([0, 9., 10.], F4)
HAND, ANCHOR = PARTS.index('hand'), np.array([[0, 0, 0], [0, 8, 0], [-6, 3, 5], [6, 3, 5]], F4)

def rot(yaw, pitch, roll):
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in np.deg2rad([yaw, pitch, roll]))
    return (np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
            @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])).astype(F4)
def kelvin(k):                                                      # BGR gain, 6500 K = white
    t = np.clip((k - 6500) / 3500, -1, 1); return np.array([1 + .42 * t, 1 + .04 * t, 1 - .35 * t] if t < 0 else [1 + .2 * t, 1, 1 - .2 * t], F4)

def pose(q):                                                        # head rotation, body rotation, translation
    return rot(q['yaw'], q['pitch'], q['roll']), rot(q['yaw'] * .15, 0, q['roll'] * .1), np.array([q['tx'], q['ty'], q['tz']], F4)
def head(P, q): R, _, t = pose(q); return (P - PIVOT) @ R.T + PIVOT + t
def sun(q):
    az, el = np.deg2rad([q['light_az'], q['light_el']]); return np.array([np.sin(az) * np.cos(el), -np.sin(el), -np.cos(az) * np.cos(el)], F4)

class Renderer:
    def __init__(s, actor, W=640, H=480, ss=1.5, bg_seed=5, f=1.18, dist=70.):
        s.a, s.W, s.H, s.ss, s.w, s.h, s.f, s.dist = actor, W, H, ss, int(W * ss), int(H * ss), f * W, dist; rng = np.random.default_rng(bg_seed)
        yy, xx = np.mgrid[:s.h, :s.w].astype(F4) / s.h; B = rng.uniform(90, 150) + (rng.normal(0, 8, 3) - 45 * yy[..., None] + 20 * xx[..., None])
        for k in range(22):                                         # out-of-focus room: boxes and lights
            x, y, w, h = rng.uniform(-.1, 1.4), rng.uniform(-.1, 1.), rng.uniform(.05, .3), rng.uniform(.05, .5)
            if k > 15: m = gauss(np.hypot(xx - x, yy - y), .03 + .1 * w) ** .3 * sstep(.05 + .1 * w, .03 + .1 * w, np.hypot(xx - x, yy - y))
            else: m = sstep(w / 2 + .01, w / 2 - .01, np.abs(xx - x)) * sstep(h / 2 + .01, h / 2 - .01, np.abs(yy - y))
            B = B + m[..., None] * ((rng.normal(0, 20) + rng.normal(0, 9, 3)) if k <= 15 else rng.uniform(10, 40) + rng.normal(0, 10, 3))
        s.bg = cv2.split(np.clip(cv2.GaussianBlur(B.astype(F4), (0, 0), s.h / 110), 8, 235).astype(np.uint8)); s.px, s.py = (np.tile(np.arange(s.w, dtype=F4), s.h), np.repeat(np.arange(s.h, dtype=F4), s.w))
        s.noise = (rng.standard_normal((H + 64, W + 64, 3)) * 2.2).round().astype(np.int16); ok = actor.keep
        s.faces = [np.flatnonzero(ok & (actor.fpart != HAND)), np.flatnonzero(ok)]

    def deform(s, q):                                               # control vertices in head space for expression q
        a, X = s.a, s.a.X0.copy(); w, sx, ax = FIELD, np.tanh(X[:, :1] / 1.2), np.abs(X[:, :1]); col = lambda *c: np.concatenate([0 * sx + k for k in c], 1)
        X += w['smile'] * q['smile'] * col(sx * .75, -.75, .55) + w['cheek'] * max(q['smile'], 0) * col(sx * .1, -.28, -.3)
        X += w['lips'] * q['pucker'] * col(-.42 * X[:, :1], 0, -.75 + .18 * ax); X += w['jaw'] * ((X - HINGE) @ rot(0, JAW_DEG * q['jaw'], 0).T + HINGE - X)
        X += w['brow'] * col(-.25 * sx * q['frown'], -.85 * q['brow'] + .45 * q['frown'] * gauss(ax - 1.5, 2.), -.1 * q['brow'])
        for k, (U, D, b) in enumerate(((EYE_U, EYE_D, q['blink_r']), (mir(EYE_U), mir(EYE_D), q['blink_l']))):
            b = np.clip(b + .15 * max(q['smile'], 0) + .2 * np.clip(q['gaze_y'], -.5, 1), -.3, 1); ux = a.X0[U]; o = np.argsort(ux[:, 0])
            gap = np.interp(a.X0[:, 0], ux[o, 0], (a.X0[D] - ux)[o, 1], 0, 0) + .02; X[D[1:-1], 1] -= .22 * max(b, 0) * np.sin(np.linspace(.2, np.pi - .2, 7))
            side = (np.sign(a.X0[:, 0]) == 2 * k - 1) * w['lid'][:, 0]; X[:, 1] += side * b * gap * .84
            d = X - a.eye_c[k]; r = np.linalg.norm(d * [.85, 1, 1], axis=1, keepdims=True)              # lids slide over the eyeball
            X += d / (r + 1e-6) * np.maximum(0, EYE_R + .1 - r) * ((side > .3) * np.clip(b * 2, 0, 1))[:, None] * [0, .3, 1]
        return X

    def geometry(s, q):                                             # -> head-space vertices, camera-space vertices, camera-space normals
        a, sl = s.a, s.a.sl; V, N = a.V.copy(), a.N.copy(); V[sl['skin']] = Topo.fine(s.deform(q).astype(F4)); R = rot(0, JAW_DEG * q['jaw'], 0)
        N[sl['skin']] = normals(V[sl['skin']], Topo.F, Topo.INC)
        for k in ('teeth_l', 'tongue', 'mouth'):                    # jaw-driven interior
            v = V[sl[k]]; w = sstep(-.6, 1.4, v[:, 1:2] - a.mouth[1]).astype(F4) if k == 'mouth' else 1; V[sl[k]] += w * ((v - HINGE) @ R.T + HINGE - v)
        V[sl['mouth'], 0] *= F4(1 - .4 * max(q['pucker'], 0)); n = a.eye_n @ rot(-q['gaze_x'] * 25, q['gaze_y'] * 20, 0).T
        V[sl['eye']], N[sl['eye']] = np.concatenate([EYE_R * n + c for c in a.eye_c]), np.tile(n, (2, 1)); Rh, Rb, t = pose(q)
        P, Nw, b = (V - PIVOT) @ Rh.T + (PIVOT + t), N @ Rh.T, a.bent; w = a.bw[b][:, None]
        P[b] += w * ((V[b] - PIVOT) @ Rb.T + PIVOT + t * F4(.6) - P[b]); Nw[b] += w * (N[b] @ Rb.T - Nw[b])
        if q['occ']: h = sl['hand']; R = rot(0, 12, q['occ_r']); P[h] = a.V[h] @ R.T + F4([q['occ_x'], q['occ_y'], -11 + q['tz']]); Nw[h] = N[h] @ R.T
        return V, P, Nw

    def light(s, q, V, P, N):                                       # -> per-vertex u, v, diffuse B, G, R, specular
        a, sl = s.a, s.a.sl; L, wb, (Rh, Rb, _) = sun(q), kelvin(q['kelvin']), pose(q)
        dw = np.stack([a.dirs @ Rh.T, a.dirs @ Rb.T], 1); kw = np.exp(22 * (dw @ L - 1)); mix = lambda m: m[:, 0] + a.bw * (m[:, 1] - m[:, 0])
        vis = mix(a.vis @ (kw / kw.sum(0))); fill = np.maximum(0, dw @ F4([-L[0], -.2, -.9]))          # soft baked shadow of the key light
        amb = .06 + .94 * mix(a.trans @ (.55 - .35 * dw[:, :, 1] + .3 * fill ** 2))                     # sky + fill, occluded
        if q['occ']: u = P - P[sl['hand']].mean(0); u -= (u @ L)[:, None] * L; vis = vis * (1 - .6 * gauss(np.linalg.norm(u, axis=1), 5.5) * (a.vpart != HAND)).astype(F4)
        e = sl['eye']; k = len(a.eye_n); c, lid = np.repeat(a.eye_c, k, 0), np.repeat(V[[EYE_U[4], mir(EYE_U)[4]], 1], k)
        ao = sstep(-.25, .55, V[e, 1] - lid) * sstep(2.2, .9, np.abs(V[e, 0] - c[:, 0])); amb[e] *= .35 + .65 * ao; vis[e] *= .3 + .7 * ao
        gape = np.clip(1.5 * q['jaw'] + .5 * q['smile'], 0, 1)
        for k, g in (('teeth_u', 1.25), ('teeth_l', .8), ('mouth', .3), ('tongue', .45)): amb[sl[k]] = .08 + .5 * g * gape; vis[sl[k]] = .8 * g * gape
        ndl, wrap = N @ L, np.where(a.skin[:, None], F4([.06, .11, .27]), F4(.1)); df = np.clip((ndl[:, None] + wrap) / (1 + wrap), 0, 1); hs = sl['hair']
        df[hs] = .35 + .65 * df[hs]; A = np.empty((len(V), 6), F4); A[:, :2] = a.UV
        A[:, 2:5] = 1.18 * q['key'] * wb * df * vis[:, None] ** F4([1.15, 1.1, .92]) + q['ambient'] * kelvin(q['kelvin'] * .5 + 3600) * amb[:, None]
        H = L + F4([0, 0, -1]); H /= np.linalg.norm(H); ndh = np.clip(N @ H, 0, 1); fres = .6 + 1.4 * np.clip(1 + N[:, 2], 0, 1) ** 3
        sp = (.26 * ndh ** 14 + .20 * ndh ** 45) * fres * np.clip(ndl * 3, 0, 1); sp[e] = 1.2 * ndh[e] ** 120; sp[sl['body']] *= .6; sp[sl['glasses']] *= 2
        T = a.T[hs] @ Rh.T; ka = lambda k, p: np.clip(1 - ((T + k * N[hs]) @ H) ** 2, 0, 1) ** (p / 2)    # Kajiya-Kay, two lobes
        sp[hs] = (.13 * ka(.18, 60) + .06 * ka(-.1, 14)) * sstep(-.3, .4, ndl[hs]); A[:, 5] = sp * vis * q['key']; return A

    def project(s, P):
        Z = P[..., 2] + s.dist; k = s.f * s.ss / Z; return np.stack([s.w / 2 + k * P[..., 0], s.h * .47 + k * (P[..., 1] - 2), 1e3 / Z], -1)

    def render(s, q, prev=None, shutter=.5, frame=0, post=True):
        """-> uint8 BGR image, ground truth dict(landmarks (468,2) px, depth cm, facing, part map, soft face mask, head rotation R).
        prev = parameters of the previous frame (motion blur over `shutter` of the frame time); frame seeds the sensor noise."""
        q = {**NEUTRAL, **q}; a = s.a; V, P, N = s.geometry(q); A = s.light(q, V, P, N); wb = kelvin(q['kelvin']); S = s.project(P).astype(F4)
        S[a.sl['eye'], 2] -= 350 / s.dist ** 2                      # lids always win over the eyeball
        use = s.faces[bool(q['occ'])]; F = a.F[use]; buf, f, T = raster(S, F, s.w, s.h, a.two[use]); pix = np.flatnonzero(buf >= 0); lf = buf[pix].astype(np.intp)
        A[:, 2:5] *= F4(255 ** -2); A[:, 5] /= 255; C, o = A[F[f]], F4([s.w / 2 - .5, s.h / 2 - .5])
        e1, e2, d1, d2 = T[:, 1, :2] - T[:, 0, :2], T[:, 2, :2] - T[:, 0, :2], C[:, 1] - C[:, 0], C[:, 2] - C[:, 0]; iv = (1 / (e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]))[:, None]
        gx, gy = (d1 * e2[:, 1:] - d2 * e1[:, 1:]) * iv, (d2 * e1[:, :1] - d1 * e2[:, :1]) * iv                                # attribute planes per face
        G = np.ascontiguousarray(np.concatenate([C[:, 0] + gx * (o[0] + F4(.5) - T[:, 0, :1]) + gy * (o[1] + F4(.5) - T[:, 0, 1:2]), gx, gy], 1).T)
        gain = np.sqrt((q['ambient'] * .55 + q['key'] * .45) * wb); img = [cv2.convertScaleAbs(b, alpha=float(k)).ravel() for b, k in zip(s.bg, gain)]
        with np.errstate(invalid='ignore'):
            for i in range(0, len(pix), 16384):                     # cache-sized planar blocks: interpolate -> texture -> shade -> tone map
                p = pix[i:i + 16384]; g = np.take(G, lf[i:i + 16384], axis=1); B = g[:6]; B += g[6:12] * (s.px[p] - o[0]); B += g[12:] * (s.py[p] - o[1])
                t4 = cv2.remap(a.atlas, B[:1], B[1:2], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0].T.astype(F4)
                lin = t4[:3] * t4[:3]; lin *= B[2:5]; lin += t4[3] * B[5] * wb[:, None]; den = lin * F4(.18); den += 1; lin /= den
                for b, v in zip(img, cv2.convertScaleAbs(np.sqrt(lin, out=lin), alpha=255)): b[p] = v
        img, (part, face) = cv2.merge(img).reshape(s.h, s.w, 3), (np.append(v[use[f]], np.uint8(e))[buf].reshape(s.h, s.w) for v, e in ((a.fpart, 255), (a.inner * np.uint8(255), 0)))
        s.overlay(img, part, q, A[a.sl['hair'], 2:5].mean(0) * 255 ** 2); near, soft = cv2.INTER_NEAREST, cv2.INTER_AREA if s.ss == 2 else cv2.INTER_LINEAR
        img, face, part = (cv2.resize(m, (s.W, s.H), interpolation=k) for m, k in ((img, soft), (face, soft), (part, near)))
        if prev is not None: img = motion_blur(img, part != 255, shutter / s.ss * (s.project(head(ANCHOR, q)) - s.project(head(ANCHOR, {**NEUTRAL, **prev}))).mean(0)[:2])
        if post: i, j = np.random.default_rng(frame).integers(0, 64, 2); img = cv2.add(img, s.noise[i:i + s.H, j:j + s.W], dtype=cv2.CV_8U)
        return img, dict(landmarks=S[:468, :2] / s.ss, depth=P[:468, 2], facing=-N[:468, 2], part=part, face_mask=face, R=pose(q)[0])

    def overlay(s, img, part, q, lit):                              # loose hair strands, corneal catchlights
        P, N, shade = s.a.strands; ok = (N @ pose(q)[0].T)[:, 2] < .25; xy = fixed(s.project(head(P, q))[..., :2]); r = np.clip(xy[:, 0] // 16, 0, [s.w - 1, s.h - 1])
        ok &= part[r[:, 1], r[:, 0]] != HAND; H = sun(q) + [0, 0, -1]; col = np.sqrt(bgr(s.a.q['hair']) ** 2 * lit * np.linspace(.5, 1.16, 4)[:, None]) * 255
        for k in range(4): cv2.polylines(img, list(xy[ok & (shade == k)]), False, np.clip(col[k], 0, 255).tolist(), 1, cv2.LINE_AA, 4)
        for c in s.a.eye_c:
            x, y, _ = s.project(head(c - 1.25 * rot(-q['gaze_x'] * 25, q['gaze_y'] * 20, 0)[:, 2], q) + .75 * H / np.linalg.norm(H)).tolist()
            if 0 <= x < s.w and 0 <= y < s.h and part[int(y), int(x)] == 4:
                cv2.circle(img, (int(x * 16), int(y * 16)), int(1.36 * s.f * s.ss / s.dist), (245, 245, 240), -1, cv2.LINE_AA, 4)

def motion_blur(img, fg, v):                                        # directional blur of the foreground only
    if np.hypot(*v) < 1: return img
    n = int(np.ceil(np.hypot(*v))) | 1; K = np.zeros((n + 2, n + 2), np.uint8); c = (n + 1) / 2
    cv2.line(K, *[np.round((c + k * v / 2) * 16).astype(int).tolist() for k in (-1, 1)], 255, 1, cv2.LINE_AA, 4); K = K.astype(F4) / K.sum()
    m = np.minimum(1, 2 * cv2.filter2D(fg.astype(F4), -1, K)); return cv2.blendLinear(cv2.filter2D(img, -1, K), img, m, 1 - m)

def motion(n, fps=30, seed=0, yaw=40, pitch=20, roll=15, light=1., hand=True):
    """Deterministic talking performance: list of n parameter dicts (identity-free)."""
    rng, t = np.random.default_rng(seed), np.arange(n) / fps
    def wave(amp, f0, k=4):                                         # smooth, zero-mean, peaks near amp
        w = sum(np.sin(2 * np.pi * f0 * (i + 1) * rng.uniform(.8, 1.2) * t + rng.uniform(0, 6.28)) / (i + 1) for i in range(k)); return amp * np.clip(w / 1.35, -1, 1)
    def hold(rate, amp):                                            # piecewise-constant targets, smoothed (saccades)
        x = np.interp(t, np.sort(rng.uniform(0, t[-1] + .1, max(2, int(rate * t[-1])))), rng.normal(0, amp, max(2, int(rate * t[-1]))), 0, 0); return cv2.GaussianBlur(x[None], (0, 0), 1.2)[0]
    talk = sstep(-.1, .4, wave(1, .17, 2)); syl = np.abs(wave(1, 1.9, 3)) * talk; blink = np.zeros(n)
    for b in np.cumsum(rng.uniform(1.2, 4., int(n // fps) + 2)): blink = np.maximum(blink, gauss(t - b, .075))
    p = dict(yaw=wave(yaw, .11), pitch=wave(pitch, .14), roll=wave(roll, .09), tx=wave(3.5, .07), ty=wave(1.5, .1), tz=wave(7, .06), jaw=np.clip(.75 * syl, 0, 1),
             smile=wave(.7, .1, 2) + .25, brow=wave(.8, .2), frown=np.clip(wave(1, .12), 0, 1), pucker=np.clip(wave(1, 1.3, 3), 0, .8) * talk, blink_l=blink, blink_r=blink,
             gaze_y=hold(1.2, .3), light_az=wave(70, .05, 2), light_el=25 + wave(22, .08, 2), key=1 + light * wave(.3, .13), ambient=.5 + light * wave(.15, .1), kelvin=5500 + light * wave(1800, .04, 2))
    p['gaze_x'] = np.clip(-p['yaw'] / 60 + hold(1.2, .35), -1, 1); u = (t / t[-1] - .62) / .14                                # hand pass late in the clip
    p.update(occ=(np.abs(u) < 1) * hand * 1., occ_x=-16 + 15 * np.cos(u * np.pi / 2), occ_y=15 - 5 * np.cos(u * 2), occ_r=25 - 15 * np.cos(u * 2))
    return [{k: float(v[i]) for k, v in p.items()} for i in range(n)]
