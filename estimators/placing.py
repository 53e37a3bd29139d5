"""What tokens say and which step they stand in, one after another, with what earlier ones have shown remembered.

To decode a token and to look for tags and separators in its text takes as long as to write it does for a policy of a
million parameters. But what it comes to depends on little: the tokens that it is decoded with, what of a tag, a
separator or a block of code has begun, and whether the step is long enough to end. So every such state is read once,
and a sequence goes from one to the next.
"""

from __future__ import annotations

from estimators.decoding import DecoderState, StreamDecoder, Tokenizer
from estimators.segmentation import NO_STEP, Placed, SegmenterState, StepRules, StepSegmenter

_MOST_MOVES = 2**16
"""Moves that are remembered before all are forgotten: hostile text meets no state twice."""
_LONGEST = 64
"""Tokens and characters of a remembered state, at most: bytes of no character and fences of code may have no end."""
_LENGTHS = 4
"""How many of three marks a step has reached: its first token, one before its fewest tokens, one before its most."""


class _State:
    """What decoder and segmenter remember, and where tokens lead from there."""

    __slots__ = ("decoder", "moves", "segmenter")

    def __init__(self, decoder: DecoderState, segmenter: SegmenterState) -> None:
        self.decoder, self.segmenter = decoder, segmenter
        self.moves: dict[int, _Move] = {}


_Move = tuple[_State, str, bool, bool, bool, bool]
"""Behind a token: the state, its text, whether it is in a step, whether a step ends, whether the step goes on with one
token more, and whether the next step comes."""
_NOWHERE = Placed(NO_STEP, False), Placed(NO_STEP, True)


class KnownPlaces:
    """What sequences of one tokenizer and definition of steps have shown so far; :meth:`sequence` begins another.

    For one thread: all sequences read what is new by the same decoder.
    """

    def __init__(self, tokenizer: Tokenizer, rules: StepRules) -> None:
        self.rules = rules
        self._decoder, self._segmenter = StreamDecoder(tokenizer), StepSegmenter(rules)
        beginning = self._decoder.state
        self._beginnings = [_State(beginning, StepSegmenter(rules, inside=inside).state) for inside in (False, True)]
        self._states: dict[tuple[DecoderState, SegmenterState], _State] = {}
        self._moves = 0

    def sequence(self, *, inside: bool = False) -> TokenPlacer:
        """A sequence of which no token is there; ``inside`` says that the prompt has opened the thought."""
        return TokenPlacer(self, self._beginnings[inside])

    def _state(self, decoder: DecoderState, segmenter: SegmenterState) -> _State:
        found = self._states.get((decoder, segmenter))
        if found is None:
            found = self._states[decoder, segmenter] = _State(decoder, segmenter)
        return found

    def learn(self, state: _State, key: int, token_id: int, tokens: int) -> _Move:
        """Where a token leads from a state, in a step of so many ``tokens`` so far; remembered there by its ``key``."""
        self._decoder.restore(state.decoder)
        self._segmenter.restore(state.segmenter, (0, tokens))
        piece = self._decoder.push(token_id)
        placed = self._segmenter.push(piece)
        advanced, counted = self._segmenter.place
        decoder, segmenter = self._decoder.state, self._segmenter.state
        how = piece, placed.step != NO_STEP, placed.closes, counted > 0, advanced > 0
        if len(decoder[0]) + sum(len(each) for each in segmenter if isinstance(each, str)) > _LONGEST:
            return _State(decoder, segmenter), *how
        if self._moves >= _MOST_MOVES:
            self._states, self._moves = {}, 0
            for each in self._beginnings:
                each.moves.clear()
        self._moves += 1
        move = state.moves[key] = self._state(decoder, segmenter), *how
        return move


class TokenPlacer:
    """Places the tokens of one sequence as :class:`StreamDecoder` and :class:`StepSegmenter` do together."""

    __slots__ = ("_fewest", "_most", "_places", "_state", "_step", "_tokens")

    def __init__(self, places: KnownPlaces, state: _State) -> None:
        self._places, self._state = places, state
        self._fewest, self._most = places.rules.min_tokens - 1, places.rules.max_tokens - 1
        self._step = self._tokens = 0

    @property
    def inside(self) -> bool:
        """Whether the next token is written inside the thought, as far as is known before it."""
        return self._state.segmenter[0]

    def push(self, token_id: int) -> tuple[str, Placed]:
        """The text that the next token adds, and where it stands."""
        tokens = self._tokens
        key = token_id * _LENGTHS + (tokens > 0) + (tokens >= self._fewest) + (tokens >= self._most)
        move = self._state.moves.get(key)
        if move is None:
            move = self._places.learn(self._state, key, token_id, tokens)
        self._state, piece, inside, closes, counted, advanced = move
        placed = Placed(self._step, closes) if inside else _NOWHERE[closes]
        self._tokens = tokens + 1 if counted else 0
        if advanced:
            self._step += 1
        return piece, placed
