"""A record type with every field class and every kind of rule, for the test that puts it into a copy of the service."""

from enum import Enum

from mongoengine import (
    CASCADE,
    DENY,
    NULLIFY,
    PULL,
    BinaryField,
    BooleanField,
    DateField,
    DateTimeField,
    Decimal128Field,
    DecimalField,
    DictField,
    EmailField,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    EnumField,
    FloatField,
    GeoPointField,
    IntField,
    LazyReferenceField,
    LineStringField,
    ListField,
    LongField,
    MapField,
    ObjectIdField,
    PointField,
    PolygonField,
    ReferenceField,
    SortedListField,
    StringField,
    URLField,
    UUIDField,
    ValidationError,
)

from service.documents.account import Account
from service.documents.note import Note
from service.documents.notebook import Notebook
from service.documents.record import Record


class Temper(Enum):
    """How it is today."""

    FOUL = "foul"
    FAIR = 2


class Claw(EmbeddedDocument):
    """One of many."""

    name = StringField(required=True, regex=r"^[a-z]{3}$")
    length = IntField(required=True, min_value=3, db_field="l")
    sharpened = DateField()
    keeper = ReferenceField(Notebook, required=True)


class Heart(EmbeddedDocument):
    """Of which there is one."""

    beats = IntField(required=True)
    resting = IntField(required=True)

    def clean(self) -> None:
        """Refuse a heart that rests faster than it beats."""
        if self.resting >= self.beats:
            raise ValidationError(errors={"resting": "less than `beats`"})


def is_even(number: int) -> None:
    """Refuse an odd number."""
    if number % 2:
        raise ValidationError("an even number")


def is_palindrome(word: str) -> None:
    """Refuse a word that is another one backwards."""
    if len(word) < 2 or word != word[::-1]:
        raise ValidationError("a word such as `kayak`")


class Monster(Record):
    """Everything at once."""

    name = StringField(required=True, unique=True, min_length=3, max_length=20)
    nickname = StringField(unique=True, max_length=20)
    code = StringField(required=True, regex=r"^[A-Z]{2}-\d{4}$", fixed=True)
    size = StringField(required=True, choices=("small", "large"))
    motto = StringField(required=True, validation=is_palindrome)
    lair = URLField(required=True)
    post = EmailField(required=True)
    heads = IntField(required=True, min_value=2, validation=is_even, db_field="h")
    teeth = IntField(required=True, choices=(32, 64))
    age = LongField(required=True, min_value=2**40)
    weight = FloatField(required=True, min_value=0.5, max_value=0.75)
    gold = DecimalField(required=True, min_value=10, max_value=99, precision=2)
    debts = Decimal128Field(required=True)
    awake = BooleanField(required=True)
    born = DateTimeField(required=True)
    seen = DateField(required=True)
    chip = UUIDField(required=True)
    tag = ObjectIdField(required=True)
    picture = BinaryField(required=True, max_bytes=100)
    temper = EnumField(Temper, required=True)
    home = ReferenceField(Notebook, required=True, reverse_delete_rule=CASCADE)
    diary = LazyReferenceField(Note, required=True, reverse_delete_rule=DENY)
    rival = ReferenceField("self", reverse_delete_rule=NULLIFY)
    tamer = ReferenceField(Account, required=True, reverse_delete_rule=CASCADE)
    friends = ListField(ReferenceField("self", reverse_delete_rule=PULL))
    books = ListField(ReferenceField(Notebook), required=True, max_length=3)
    spot = GeoPointField(required=True)
    place = PointField(required=True, auto_index=False)
    path = LineStringField(required=True, auto_index=False)
    realm = PolygonField(required=True, auto_index=False)
    spells = ListField(StringField(regex=r"^[a-z]+$", max_length=5), required=True, max_length=4)
    scores = SortedListField(IntField(min_value=5), required=True)
    powers = MapField(IntField(min_value=1), required=True)
    lore = DictField(required=True)
    heart = EmbeddedDocumentField(Heart, required=True)
    claws = EmbeddedDocumentListField(Claw, required=True)
    spare = EmbeddedDocumentField(Claw)
    wakes = DateTimeField()
    sleeps = DateTimeField()
    price = IntField(default=3, min_value=1, owner_only=True, help_text="what it costs")
    secret = StringField(hidden=True)
    kills = IntField(read_only=True)

    meta = {
        "collection": "monsters",
        "version": 1,
        "sorts": [
            *("updated_at", "-updated_at", "name", "-heads,name", "weight", "born", "tag", "debts", "awake", "seen"),
            *("-price", "heart.beats", "spare.length"),
        ],
        "filters": [
            *("id", "owner", "created_at", "name", "code", "heads", "gold", "debts", "awake", "born", "seen", "chip"),
            *(
                "tag",
                "picture",
                "temper",
                "home",
                "diary",
                "rival",
                "friends",
                "spot",
                "place",
                "path",
                "realm",
                "lore",
            ),
            *("spells", "scores", "powers", "heart", "heart.beats", "claws.name", "claws.length", "price"),
        ],
        "search": ["motto", "claws.name"],
        "indexes": ["chip", {"fields": ["post", "size"], "sparse": True}],
    }

    def clean(self) -> None:
        """Refuse one that goes to sleep before it wakes; one that tells of one has to tell of the other."""
        if (self.wakes is None) != (self.sleeps is None):
            raise ValidationError("both of `wakes` and `sleeps`, or none")
        if self.wakes and self.sleeps and self.sleeps < self.wakes:
            raise ValidationError(errors={"sleeps": "not before `wakes`"})
        if self.heads > 2 and self.wakes is None:
            raise ValidationError("one of more than two heads wakes and sleeps")
