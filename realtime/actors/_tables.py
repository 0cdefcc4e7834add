# mypy: ignore-errors
# ruff: noqa
"""Data only: FaceMesh landmark index lists and the two demo identities (every key of shape is a signed amount, 0 = generic)."""
OVAL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58,
        132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
UL_IN, LL_IN = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308], [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]
UL_OUT, LL_OUT = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291], [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291]
EYE_U, EYE_D = [33, 246, 161, 160, 159, 158, 157, 173, 133], [33, 7, 163, 144, 145, 153, 154, 155, 133]
BROW_U, BROW_D = [70, 63, 105, 66, 107], [46, 53, 52, 65, 55]
LIPS, EYE, BROW = UL_OUT + LL_OUT[-2:0:-1], EYE_U + EYE_D[-2:0:-1], BROW_U + BROW_D

ADA = dict(seed=11, skin=(232, 190, 168), blush=.12, bags=.06, lips=(188, 84, 88), lipamt=.75, lipgloss=.4, folds=.12, liner=.7, lash=1.1, brow=(96, 58, 36),
           browdens=.75, browthick=.75, eye=(84, 128, 84), freckles=.55, hair=(104, 52, 32), hair2=(150, 84, 48), style='long', part=.22, sweep=.4,
           cloth=(38, 92, 104), collar=20.5, vneck=3.5,
           shape=dict(jaw=-.45, taper=.5, nosewidth=-.25, nosetip=-.2, noselen=-.15, lips=.35, eyesize=.35, eyetilt=.4, cheekbone=.4,
                      browheight=.35, chin=-.2, browridge=-.3, mouthwidth=-.1))
BO = dict(seed=23, skin=(188, 138, 108), blush=.05, bags=.14, lips=(158, 98, 84), lipamt=.55, lipgloss=.1, folds=.32, liner=.15, lash=.5, brow=(24, 18, 16),
          browdens=1.25, browthick=1.15, eye=(72, 44, 24), beard=.8, hair=(26, 22, 22), hair2=(52, 42, 38), style='short', quiff=.9, part=.5, cloth=(120, 44, 40),
          shape=dict(jaw=.3, width=-.25, nosewidth=.45, nosetip=.4, noselen=.3, bridge=.5, lips=-.3, eyesize=-.25, eyetilt=-.3, browheight=-.3,
                     browridge=.6, chin=.45, chinout=.3, mouthwidth=.25, eyegap=-.2))
