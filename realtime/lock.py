"""Chooses whose face is swapped. The faces of each frame in, a Choice out.

Note [Who is the performer]
    With the policy `lock` one person is the performer. Whatever is in doubt is a miss: no frame is let through in which
    the performer's face might be the one that is not swapped.

    First. A face that is alone is taken at once. Of several, the largest one that is alive (see realtime.alive) is
    taken, after DECIDE_S; for as long as a taken face has shown no life, company puts it in doubt, and whoever is alive
    takes over from a face that has shown none for STILL_S. Pictures alone among themselves: the largest.

    Kept. Followed by its track_id. A face whose looks or place jump is somebody else until proven otherwise, whatever
    its number says: a cut, or a tracker that went over to another person. While two faces touch, the performer's
    must look more like himself than like the other.

    Back again. A face that comes back within RETURN_S to where the performer was last, and nobody else was, is the
    performer. Otherwise looks decide, and by Note [How well faces are told apart] they err, so that
    - whoever was in view together with the performer is never taken for him,
    - a face that looks like the performer (SAME), more than like anybody else who was seen, is taken for him,
    - one that looks rather like him (LIKELY) is taken when it is alive and was watched for ALONE_S,
    - whoever is alone and alive is taken after ADOPTED_S, or after ALONE_S where the performer was followed until his
      looks changed at once: nobody shall be shut out of his own stream by a lamp or by glasses.
    All of these are taken by their looks alone, so that company puts them in doubt until they look clearly more like
    the first performer than it does. He is never forgotten: when he comes back, whoever was taken for him gives way.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple

from realtime.frame import Face, ImageU8
from realtime.likeness import Likeness, Look, look
from realtime.people import IN_PLACE, JUMP_OVERLAP, LOOKS, Person, jumped_away, middle, on_head, overlap, touching
from realtime.standin import Box

Policy = Literal["lock", "largest", "leftmost", "all"] | int
"""Whom to swap: `lock` see Note [Who is the performer]; the largest face; the leftmost; the N-th from the left, from 1;
everyone."""

DECIDE_S, STILL_S, RETURN_S, ALONE_S, ADOPTED_S = 1.0, 3.0, 0.8, 2.0, 10.0
SAME, LIKELY, OTHER = 1.25, 1.5, 2.6
"""Distances of Likeness over 8 frames. In one light the performer is further than SAME from what he looked like in 15
of 100 moments, than LIKELY in 6, than OTHER in none; in another light in 72, 51 and 5. Of 100 strangers 11, 20 and 51
are nearer than that, see benchmarks/results/likeness.json: whatever rests on it is in doubt in company."""
CLEARER = 0.75
"""A face is rather this person than that when its distance is smaller by this factor."""
NEWEST = 45
"""So many of the performer's last looks count by themselves, too: his memory is an average over all light."""
TOUCH_S = 0.4
"""So long after the last touch it can be told who came out of it."""
_GAP_S, _FORGET_S, _MOST_AWAY = 1.0, 300.0, 16
_LARGER = 1.25
"""The largest face changes when another is so much wider."""


class NoChoice(StrEnum):
    """Why none of the faces in view is to be swapped."""

    WRONG_PERSON = "the performer is not in view"
    UNDECIDED = "it is not clear who the performer is"


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Whom to swap in one frame."""

    swap: tuple[Face, ...]
    others: tuple[Face, ...]
    miss: NoChoice | None = None
    """Why nobody is to be swapped, though faces are in view."""


@dataclass(slots=True, eq=False)
class _Performer:
    person: Person | None
    """Who is being followed."""
    likeness: Likeness
    box: Box
    last_s: float
    proven: bool
    """False for a first face that has shown no life yet."""
    trusted_s: float | None = None
    """Since when a face was taken by its looks alone."""
    original: Likeness | None = None
    """What the first one looked like, once a face was adopted that looks different."""
    newest: deque[Look] = field(default_factory=lambda: deque(maxlen=NEWEST))
    """His last looks."""

    def distance(self, likeness: Likeness) -> float | None:
        """How far somebody is from what the performer has always looked like, or looked like last."""
        known = (likeness.distance(self.likeness), likeness.distance(Likeness(*self.newest)))
        return min((each for each in known if each is not None), default=None)


class _Candidate(NamedTuple):
    """Somebody who may be the performer who was lost."""

    person: Person
    mine: float | None
    """Distance from the performer, None when it is not known."""
    theirs: float
    """Distance from whoever else is nearest."""


class FaceLock:
    """Keeps to the performer, see Note [Who is the performer]. No clock of its own; not thread-safe."""

    def __init__(self, policy: Policy = "lock") -> None:
        """Raises ValueError for a policy that does not exist."""
        whole = isinstance(policy, int) and not isinstance(policy, bool) and policy >= 1
        if not whole and policy not in ("lock", "largest", "leftmost", "all"):
            raise ValueError(f"the face is lock, largest, leftmost, all or a number from 1, got {policy!r}")
        self._policy = policy
        self._people: dict[int, Person] = {}
        """In view, by track_id."""
        self._away: list[Person] = []
        """Who was seen, the last one last."""
        self._performer: _Performer | None = None
        self._doubtful: tuple[Box, float] = (0.0, 0.0, 0.0, 0.0), -math.inf
        """Where and when a first face was seen last that had shown no life."""
        self._largest: int | None = None
        self._now_s = -math.inf

    @property
    def policy(self) -> Policy:
        """How the face is chosen; `lock` once the user has chosen one."""
        return self._policy

    def update(self, image: ImageU8, faces: Sequence[Face], now_s: float) -> Choice:
        """Whom to swap in a (H, W, 3) BGR image at time `now_s`, in seconds with any origin."""
        if not 0 <= now_s - self._now_s <= _GAP_S:
            self._cut()
        step_s = now_s - self._now_s if 0 <= now_s - self._now_s <= _GAP_S else 0.0
        self._now_s = now_s
        if self._policy != "lock":
            self._people = {face.track_id: Person(face, now_s, now_s) for face in faces}
            return self._by_place(faces)
        self._see(image, faces, step_s)
        if not faces:
            return Choice((), ())
        if self._performer is not None and self._performer.person is None and not self._performer.proven:
            self._doubtful = self._performer.box, self._performer.last_s
            self._performer = None
        if self._performer is None:
            self._take_first()
        else:
            self._keep(self._performer)
        if self._performer is not None and self._performer.person is None:
            self._look_for(self._performer)
        return self._answer(faces)

    def choose_at(self, x: float, y: float) -> bool:
        """Make the face of the last frame that lies at (x, y), in its pixels, the performer; False if none does.

        The policy becomes `lock`.
        """
        here = [each for each in self._people.values() if on_head(each.face.box, x, y)]
        if here:
            self._choose(min(here, key=lambda each: math.dist(middle(each.face), (x, y))))
        return bool(here)

    def next_face(self) -> bool:
        """Make the next face to the right in the last frame the performer, after the last one the first again.

        The policy becomes `lock`. False when no face is in view.
        """
        row = sorted(self._people.values(), key=lambda each: middle(each.face))
        now = self._performer.person if self._performer else None
        if row:
            self._choose(row[(row.index(now) + 1) % len(row)] if now in row else row[0])
        return bool(row)

    def _choose(self, person: Person) -> None:
        self._policy = "lock"
        self._away = []
        for each in self._people.values():
            each.seen_with = each is not person
        person.touched_s = None
        self._performer = _Performer(person, person.likeness, person.face.box, person.last_s, proven=True)

    # --- policies that go by place

    def _by_place(self, faces: Sequence[Face]) -> Choice:
        if not faces or self._policy == "all":
            return Choice(tuple(faces), ())
        if self._policy == "largest":
            self._largest = self._still_largest()
            return _split(faces, self._largest)
        row = sorted(faces, key=middle)
        place = 1 if self._policy == "leftmost" else int(self._policy)
        if place > len(row):
            return Choice((), tuple(faces), NoChoice.WRONG_PERSON)
        return _split(faces, row[place - 1].track_id)

    def _still_largest(self) -> int:
        largest = max(self._people.values(), key=_side)
        before = self._people.get(self._largest) if self._largest is not None else None
        return (largest if before is None or _side(largest) > _LARGER * _side(before) else before).face.track_id

    # --- who is in view

    def _cut(self) -> None:
        """A gap, or time went back: nobody is followed any more, and places mean nothing."""
        for person in self._people.values():
            self._leave(person)
        self._people = {}
        if self._performer:
            self._performer.last_s = -math.inf

    def _see(self, image: ImageU8, faces: Sequence[Face], step_s: float) -> None:
        """Bring everybody up to date with this frame."""
        before, self._people = self._people, {}
        alone = len(faces) == len(before) == 1
        for face in faces:
            seen = look(image, face)
            known = before.pop(face.track_id, None)
            jumped = known is not None and jumped_away(known, face, seen, step_s, alone)
            if known is not None and jumped:
                self._leave(known)
            person = Person(face, self._now_s, self._now_s, jumped=jumped) if known is None or jumped else known
            if jumped and known is not None and overlap(known.face.box, face.box) > IN_PLACE:
                person.life = known.life  # no picture takes the very place of a person from one frame to the next
            if jumped and known is not None and self._performer is not None:
                heir = known is self._performer.person or known.heir
                person.heir = heir and overlap(known.face.box, face.box) >= JUMP_OVERLAP
            person.face, person.last_s, person.look = face, self._now_s, seen
            self._people[face.track_id] = person
        for person in before.values():
            self._leave(person)
        self._away = [each for each in self._away if 0 <= self._now_s - each.last_s < _FORGET_S][-_MOST_AWAY:]
        for person in self._people.values():
            self._watch(person, step_s)

    def _leave(self, person: Person) -> None:
        if self._performer and self._performer.person is person:
            self._performer.person = None
        elif person.likeness.looks:
            self._away.append(person)

    def _watch(self, person: Person, step_s: float) -> None:
        person.life.watch(person.face.landmarks, self._now_s)
        person.alone_s = person.alone_s + step_s if len(self._people) == 1 else 0.0
        near = [each for each in [*self._people.values(), *self._away] if each is not person]
        touched = [each.face.box for each in near if self._now_s - each.last_s < TOUCH_S]
        lost = self._performer if self._performer and self._performer.person is None else None
        if lost and person.likeness.looks and self._now_s - lost.last_s < TOUCH_S:
            touched.append(lost.box)
        if any(touching(person.face.box, box) for box in touched):
            person.touched_s = self._now_s
            person.recent.clear()
        elif person.look is not None:
            person.recent.append(person.look)
            if person.touched_s is None:
                person.likeness.add(person.look)

    # --- who is the performer

    def _take_first(self) -> None:
        people = list(self._people.values())
        places = [(each.face.box, each.last_s) for each in self._away] + [self._doubtful]
        gone = [box for box, last_s in places if 0 <= self._now_s - last_s < DECIDE_S]
        if any(overlap(box, person.face.box) < JUMP_OVERLAP for box in gone for person in people):
            return  # who left a moment ago may be half in view
        if len(people) > 1:
            alive = [each for each in people if each.life.alive]
            watched_s = self._now_s - min(each.first_s for each in people)
            sure = alive and (max(people, key=_side).life.alive or watched_s >= DECIDE_S)
            if not sure and watched_s < STILL_S:
                return
            people = alive or people
        first = max(people, key=_side)
        first.touched_s = None
        self._performer = _Performer(first, first.likeness, first.face.box, self._now_s, proven=first.life.alive)

    def _keep(self, performer: _Performer) -> None:
        """Follow the performer, as long as it is clear that it is him."""
        for each in list(self._people.values()):
            self._settle(performer, each)
        person = performer.person
        if person is None:
            return
        others = [each for each in self._people.values() if each is not person]
        performer.proven = performer.proven or person.life.alive
        if not performer.proven:
            if person.life.picture and any(self._now_s - each.life.since_s >= STILL_S for each in others):
                self._performer = None
                self._take_first()
        elif performer.trusted_s is not None or (performer.original and any(not each.seen_with for each in others)):
            self._test_trust(performer, person, others)
        elif person.touched_s is None:
            for each in others:
                each.seen_with = True
            if person.look is not None:
                performer.newest.append(person.look)
                if performer.likeness is not person.likeness:
                    performer.likeness.add(person.look)
        performer.box, performer.last_s = person.face.box, self._now_s

    def _settle(self, performer: _Performer, person: Person) -> None:
        """Find out whose face it is that came out of a touch."""
        lately = person.lately()
        if person.touched_s is None or self._now_s - person.touched_s < TOUCH_S or lately is None:
            return
        is_performer = person is performer.person
        memory = performer.likeness if is_performer else person.likeness
        own, other = lately.distance(memory), self._nearest(person, lately, person.touched_s - RETURN_S)
        if not is_performer:
            lost = performer.distance(lately)
            other = min(other, lost if lost is not None else SAME)
        if not memory.looks or person.alone_s > ADOPTED_S or (own is not None and own < min(CLEARER * other, OTHER)):
            person.touched_s = None
        elif own is None or other < CLEARER * own:
            if is_performer:
                performer.person = None
            fresh = Person(person.face, self._now_s, self._now_s, person.look, life=person.life, jumped=True)
            self._people[person.face.track_id] = fresh

    def _test_trust(self, performer: _Performer, person: Person, others: list[Person]) -> None:
        """A face that was taken by its looks: does anybody else look more like the performer?

        What the first one looked like is never forgotten: whoever was adopted while he was away gives way to him.
        """
        if performer.trusted_s is not None and person.alone_s > ADOPTED_S:
            performer.original = performer.original or performer.likeness
            performer.trusted_s, performer.likeness = None, person.likeness
            performer.newest.clear()
            return
        first = performer.original or performer.likeness
        lately = person.lately()
        mine = lately.distance(first) if lately else None
        for other in others:
            seen = other.lately()
            theirs = seen.distance(first) if seen else None
            if other.seen_with or mine is None or theirs is None:
                continue
            if other.life.alive and theirs < CLEARER * mine:
                performer.person, performer.trusted_s = other, None
                performer.likeness, performer.original = first, None
                performer.newest.clear()
                return
            settled = mine < SAME and person.life.alive and self._now_s - other.first_s >= STILL_S
            if mine < CLEARER * theirs or settled:
                other.seen_with = True
        if others and all(each.seen_with for each in others):
            performer.trusted_s = None

    def _look_for(self, performer: _Performer) -> None:
        """Whether one of the faces in view is the performer who was lost."""
        strangers = [each for each in self._people.values() if not each.seen_with]
        back = next((each for each in strangers if self._came_back(performer, each)), None)
        if back is not None:
            performer.person = back
            return
        candidates = [each for each in (self._candidate(performer, person) for person in strangers) if each]
        unknown = any(each.mine is None for each in candidates)
        if not candidates or (unknown and len(candidates) > 1):
            return
        best, *others = sorted(candidates, key=lambda each: each.mine or 0.0)
        clearer = CLEARER**2 if self._covered(performer) else CLEARER
        limit = clearer * min([best.theirs, *(each.mine or 0.0 for each in others)])
        person, mine, waited_s = best.person, best.mine, self._now_s - best.person.first_s
        sure = mine is not None and mine < min(SAME, limit)
        likely = mine is not None and mine < min(LIKELY, limit) and person.life.alive and waited_s >= ALONE_S
        adopted = person.life.alive and person.alone_s >= (ALONE_S if person.heir else ADOPTED_S)
        if sure or likely or adopted:
            performer.person, performer.trusted_s, person.touched_s = person, self._now_s, None

    def _covered(self, performer: _Performer) -> bool:
        """Whether the only face in view may hide another: the performer was lost in a touch, and one is gone."""
        if len(self._people) > 1:
            return False
        gone = [each for each in self._away if each.seen_with and each.last_s >= performer.last_s - TOUCH_S]
        return any(touching(each.face.box, performer.box) for each in gone)

    def _candidate(self, performer: _Performer, person: Person) -> _Candidate | None:
        """How a face compares; None when nothing can be said yet, or when it is rather somebody else who was seen."""
        lately = person.lately()
        if lately is None or (person.touched_s is not None and self._now_s - person.touched_s < TOUCH_S):
            return _Candidate(person, None, math.inf) if len(self._people) > 1 else None
        lost_s = performer.last_s - TOUCH_S
        mine, theirs = performer.distance(lately), self._nearest(person, lately, lost_s)
        if person.likeness.looks > LOOKS:
            # What all of its frames say counts as much as the last ones: the worse of both.
            always = performer.distance(person.likeness)
            mine = max(mine, always) if mine is not None and always is not None else mine
            theirs = min(theirs, self._nearest(person, person.likeness, lost_s))
        if theirs < LIKELY and (mine is None or theirs < CLEARER * mine):
            return None
        return _Candidate(person, mine, theirs)

    def _came_back(self, performer: _Performer, person: Person) -> bool:
        """Whether a face appeared where the performer was a moment ago, and nobody else."""
        if person.jumped or person.look is None or self._now_s - performer.last_s > RETURN_S:
            return False
        near = [each for each in [*self._people.values(), *self._away] if each is not person]
        near = [each for each in near if self._now_s - each.last_s < RETURN_S]
        if any(touching(each.face.box, performer.box) for each in near):
            return False
        distance = performer.distance(Likeness(person.look))
        return overlap(person.face.box, performer.box) > JUMP_OVERLAP and distance is not None and distance < OTHER

    def _nearest(self, person: Person, likeness: Likeness, since_s: float) -> float:
        """How far the nearest of all others is whom a face may be, infinite without any; the performer does not count.

        Who was seen since `since_s`, but never from the same side, may be as near as the performer usually is to
        himself.
        """
        performer = self._performer.person if self._performer else None
        elsewhere = [each for each in self._people.values() if each.seen_with and each.touched_s is None]
        nearest = math.inf
        for each in [*self._people.values(), *self._away]:
            if each is person or each is performer or each in elsewhere:
                continue
            distance = likeness.distance(each.likeness)
            if distance is None and each.last_s >= since_s:
                distance = SAME
            nearest = min(nearest, distance if distance is not None else math.inf)
        return nearest

    # --- the answer

    def _answer(self, faces: Sequence[Face]) -> Choice:
        performer = self._performer
        if performer is None:
            return Choice((), tuple(faces), NoChoice.UNDECIDED)
        person = performer.person
        if person is None:
            return Choice((), tuple(faces), NoChoice.WRONG_PERSON)
        rivals = [each for each in self._people.values() if each is not person and not each.seen_with]
        by_looks = performer.trusted_s is not None or performer.original is not None
        doubted = bool(rivals) and (by_looks or not self._taken(performer))
        if doubted or (person.touched_s is not None and not self._himself(performer, person)):
            return Choice((), tuple(faces), NoChoice.UNDECIDED)
        return _split(faces, person.face.track_id)

    def _taken(self, performer: _Performer) -> bool:
        """Whether a first face is the performer even in company: alive, or nobody has been for long."""
        still = all(self._now_s - each.first_s >= STILL_S and not each.life.alive for each in self._people.values())
        return performer.proven or still

    def _himself(self, performer: _Performer, person: Person) -> bool:
        """Whether a face that touches another, or just did, looks like the performer in this very frame."""
        if person.look is None or person.touched_s is None:
            return False
        now = Likeness(person.look)
        mine, theirs = performer.distance(now), self._nearest(person, now, person.touched_s - RETURN_S)
        return mine is not None and mine < min(CLEARER * theirs, LIKELY)


def _split(faces: Sequence[Face], track_id: int) -> Choice:
    chosen = tuple(face for face in faces if face.track_id == track_id)
    return Choice(chosen, tuple(face for face in faces if face.track_id != track_id))


def _side(person: Person) -> float:
    """The longer side of a face's box: a head that turns away gets narrow, not small."""
    left, top, right, bottom = person.face.box
    return max(right - left, bottom - top)
