"""The words of all worlds: invented names and ordinary words. Train, dev and test have no names in common."""

from __future__ import annotations

from typing import NamedTuple

from .rng import PortableRng

SPLITS = ("train", "dev", "test")
PRETRAIN = "pretrain"  # worlds for a base, with other facts about the names of "train"
MASKS = ("<extra_id_0>", "<extra_id_1>")  # they stand for removed words, as in T5
UNANSWERABLE = "unanswerable"  # the answer where no passage has one


class Names(NamedTuple):
    """The words for names of one group, by split. No word is in two splits."""

    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _compound(starts: str, ends: str) -> tuple[str, ...]:
    return tuple(start + end for start in starts.split() for end in ends.split())


def _split(words: tuple[str, ...], train: int, held_out: int) -> Names:
    """Words in a random order, which is the same for every seed, divided into three splits."""
    order = tuple(PortableRng(6, len(words)).shuffled(words))
    return Names(order[:train], order[train : train + held_out], order[train + held_out : train + 2 * held_out])


NAMES = {
    "given name": _split(
        _compound(
            "Al Bar Cor Del El Fen Gal Hal Is Jor Kel Lor Mir Nor Or Per Quin Ros Sel Tam Ul Ver Wil Yar Zel",
            "abel adric amond andra elle eth ian ina iver olin osta ymer",
        ),
        96,
        48,
    ),
    "surname": _split(
        _compound(
            "Thistle Pepper Bramble Copper Hazel Juniper Kettle Lark Marsh Nettle Otter Plum Quill Raven Saffron "
            "Tansy Umber Velvet Willow Yarrow",
            "wood by well worth ley bottom smith pool shaw thorne",
        ),
        96,
        48,
    ),
    "town": _split(
        _compound(
            "Ash Birch Crow Dun Elder Fox Gorse Heron Ivy Kings Lime Moor Nut Oak Pike Quay Rook Salt Tern Under "
            "Vale Wren Yew Bell Candle",
            "ford wick mere ton holm bridge haven combe stead gate port field",
        ),
        128,
        80,
    ),
    "company": _split(
        _compound(
            "Bram Cald Dray Eger Fitz Garr Hebb Ives Jask Kern Lud Mott Nash Ost Pell Quor Radd Stav Tull Usk "
            "Varr Wyck Yost Zan",
            "ow ner lin son ett ard ick way berg ing",
        ),
        96,
        72,
    ),
    "title adjective": _split(
        _words(
            "Silent Crooked Golden Hollow Patient Velvet Wandering Borrowed Frozen Hidden Lonely Merry Narrow "
            "Painted Quiet Restless Sleeping Tangled Upside Vanished Whispering Amber Bitter Clever Distant Early "
            "Faithful Gentle Honest Idle Jealous Kindly Late Midnight Nervous Obedient Paper Queer Reluctant "
            "Scarlet Tender Unwritten Violet Weary Yellow Ancient Broken Careless Drowsy Emerald Forgotten Glass "
            "Humble Invisible Jolly Knotted Lost Moonlit Noble Open Proud Rusty Secret Thirsty Untidy Vain Wild "
            "Young Absent Brave Curious Dusty"
        ),
        32,
        20,
    ),
    "title noun": _split(
        _words(
            "Orchard Lantern Harbor Staircase Umbrella Piano Compass Garden Mirror Winter Kingdom Letter Shadow "
            "Island Engine Feather Lighthouse Teapot Detective Carnival Library Bicycle Dragon Window Passenger "
            "Scarecrow Sparrow Thunder Uncle Volcano Whale Anchor Balcony Cathedral Daughter Echo Fountain Giant "
            "Horizon Inkwell Journey Keyhole Labyrinth Magician Notebook Ocean Postman Question Riddle Sailor "
            "Tunnel Valley Waltz Almanac Bridge Cellar Diary Evening Forest Ghost Hotel Iceberg Jungle Kite "
            "Ladder Meadow Nightingale Oracle Parade Quarrel Rainbow Tower"
        ),
        32,
        20,
    ),
    "province": _split(
        _compound(
            "Aru Belo Caro Duro Eska Faro Gala Hespa Ila Jura Kala Lumo Mora Nava Olda Pera",
            "via shire mark nia land dell",
        ),
        32,
        32,
    ),
    "river": _split(
        _compound(
            "Ae Bri Cla Dwe Ela Fli Gru Hea Isu Jo Kne Le Mu Nai Oru Pra Que Ri Sle Tro Ula Vi Wye Ze", "nn sk rre tha"
        ),
        32,
        32,
    ),
    "prize": _split(
        _compound(
            "Astr Bell Cand Dext Ember Flor Glor Hesp Illum Jub Laur Merid Nov Opal Prim Regal Sol Trium Val Zen",
            "ine ade ora ium aris umbra",
        ),
        40,
        40,
    ),
}

# Values that all splits share. Each begins with a consonant, so that "a" fits before any of them.
VALUES = {
    "company kind": _words("Press Mills Labs Bank Works Guild Foundry Brothers"),
    "profession": _words(
        "baker banker barber beekeeper botanist brewer carpenter cartographer clockmaker cobbler cook dancer "
        "dentist detective diver farmer ferryman fisher gardener glassblower glazier judge juggler lawyer "
        "librarian locksmith magician mason miller painter pilot poet potter sailor shepherd singer surgeon "
        "tailor teacher weaver"
    ),
    "instrument": _words(
        "banjo bassoon bugle cello clarinet drum fiddle flute guitar harmonica harp horn lute lyre mandolin "
        "piano piccolo trombone trumpet tuba viola zither"
    ),
    "animal": _words(
        "badger beaver camel cat crane crow dog donkey dove falcon ferret fox frog goat goose hare hedgehog "
        "heron horse lizard llama magpie mole monkey newt parrot peacock pelican pig pigeon rabbit raven "
        "salmon seal snail squirrel swan toad tortoise turkey walrus weasel whale wolf"
    ),
    "goods": _words(
        "barrels bells books boots bricks buttons candles carpets cheese chocolate clocks cutlery furniture "
        "gloves hats honey jam kites knives lace lamps leather lemonade marbles mustard needles paper pencils "
        "pepper porcelain puppets rope salt scissors silk soap spoons tea tiles toys wine wool"
    ),
    "landmark": _words(
        "bakery bandstand bathhouse brewery cathedral cemetery chapel clocktower courthouse fountain gallery "
        "granary greenhouse lighthouse lock maze monument museum palace prison pump ropeway statue theater "
        "treadmill tunnel viaduct windmill"
    ),
    "genre": _words(
        "ballad comedy diary fable farce memoir mystery parody romance satire thriller tragedy travelogue western"
    ),
    "two digits": tuple(f"{n:02}" for n in range(100)),
}
YEARS = (1400, 2000)


def groups() -> dict[str, tuple[str, ...]]:
    """The words of each group for all splits together. In a group, any word may stand for any other."""
    return {name: words.train + words.dev + words.test for name, words in NAMES.items()} | VALUES
