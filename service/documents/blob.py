"""Blobs: the bytes of a file, and their parts, in the form of MongoDB's GridFS."""

from mongoengine import BinaryField, DateTimeField, DictField, Document, IntField, LongField, StringField


class Blob(Document):
    """Bytes that come, that a file has, or that nobody has any more: then a worker takes them away.

    They are `file`'s from the moment at which that record is made, in the same transaction. Until then they go when
    they are not whole at `expires_at`; from `orphaned_at` on nobody adds to them, reads them or claims them. The names
    with capitals are those of GridFS, whose tools so find them.
    """

    id = StringField(primary_key=True)
    account = StringField(required=True, help_text="in whose storage they count")
    # Bytes that count there: those of a file, or those that may come; none any more of what has gone.
    reserved = LongField(required=True)
    # Bytes that are stored.
    length = LongField(required=True)
    chunk_size = IntField(required=True, db_field="chunkSize")
    upload_date = DateTimeField(required=True, db_field="uploadDate")
    file = StringField(help_text="id of the record that has them")
    rendition = StringField(help_text="which smaller image of the file this is; there is a blob of all of it as well")
    renditions = IntField(help_text="how often one was made of this file: who makes one, and who deletes it, meet here")
    # Of an upload that may break off: how many bytes it will have, what its file will say, and who writes to it.
    declared = LongField()
    content = DictField()
    writer = StringField()
    writer_until = DateTimeField()
    # Of a multipart upload to S3 that is under way: its id there, and the tags of the parts by number.
    multipart = StringField()
    parts = DictField()
    expires_at = DateTimeField()
    orphaned_at = DateTimeField()

    meta = {
        "collection": "blobs.files",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            "account",
            {"fields": ["file"], "sparse": True},
            {"fields": ["expires_at"], "sparse": True},
            {"fields": ["orphaned_at"], "sparse": True},
        ],
    }


class BlobChunk(Document):
    """A part of a blob; its id tells which one."""

    id = StringField(primary_key=True)
    files_id = StringField(required=True, help_text="id of the blob")
    n = IntField(required=True, help_text="the first is 0")
    data = BinaryField(required=True)

    meta = {
        "collection": "blobs.chunks",
        "auto_create_index": False,
        "indexes": [{"fields": ["files_id", "n"], "unique": True}],
    }
