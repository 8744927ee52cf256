#!/usr/bin/env python3
"""Prints segments as JSON: segment_decoder.py FILE...

Written from walship-segment(5) and nothing else, so that the page is complete and the program's own reader is not the
only witness. Checks everything on that page that one segment shows by itself, but not digests and chain, which would
take XXH3. Exit status: 0 all printed; 1 a file is not a segment, with the reason on standard error; 64 usage.
"""

import json
import struct
import sys
import zlib

MAX_BLOCK = 1 << 20
MAX_SEGMENT = 48 << 20
MAX_ENTRIES = 4_000_000
MAX_ATTRIBUTES = 96 << 10
KINDS = ("file", "directory", "symlink", "fifo", "characterDevice", "blockDevice")
MAX_NAME = 255
MAX_TARGET = 4095
MAX_FILTER = 64 << 10
MAX_RULES = 4096
MAX_PATTERN = 4095
MAX_CHUNK = 256 << 10
MAX_HOLE = 1 << 30
MAX_FILE_BLOCKS = 1 << 22
FIRST_LOCAL_OBJECT = 1 << 62


class Refused(Exception):
    pass


def require(condition, reason):
    if not condition:
        raise Refused(reason)


class Reader:
    """Takes values off the front of bytes."""

    def __init__(self, data, what):
        self.data = data
        self.what = what
        self.offset = 0

    def take(self, count):
        left = len(self.data) - self.offset
        require(count <= left, f"{self.what}: {count} bytes needed, {left} there")
        self.offset += count
        return self.data[self.offset - count : self.offset]

    def unpack(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def u8(self):
        return self.take(1)[0]

    def varint(self, limit=(1 << 64) - 1):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            require(value < 1 << 64 and shift < 70, f"{self.what}: varint of more than 64 bits")
            if byte < 0x80:
                break
            shift += 7
        require(byte > 0 or shift == 0, f"{self.what}: varint not in its shortest form")
        require(value <= limit, f"{self.what}: {value} is beyond {limit}")
        return value

    def svarint(self):
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def digest(self):
        return self.take(16).hex()

    def object(self):
        number = self.varint(FIRST_LOCAL_OBJECT - 1)
        require(number > 0, f"{self.what}: object 0")
        return number


def escaped(path):
    """Control characters, backslashes, what turns the direction of text, and what is not UTF-8, as \\xHH."""
    text = ""
    for character in path.decode("utf-8", "surrogateescape"):
        code = ord(character)
        turns = code in (0x61C, 0x200E, 0x200F) or 0x2028 <= code <= 0x202E or 0x2066 <= code <= 0x2069
        if code < 0x20 or 0x7F <= code < 0xA0 or character == "\\" or turns or 0xDC80 <= code <= 0xDCFF:
            text += "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
        else:
            text += character
    return text


def decode_header(data):
    require(len(data) >= 8, "header is torn")
    require(data[:8] == b"WALSEG\r\n", "header: magic")
    require(len(data) >= 10, "header is torn")
    version = struct.unpack_from("<H", data, 8)[0]
    require(version == 1, f"header: version {version}")
    require(len(data) >= 128, "header is torn")
    require(zlib.crc32(data[:124]) == struct.unpack_from("<I", data, 124)[0], "header: checksum")

    reader = Reader(data[:128], "header")
    reader.take(10)
    length, flags = reader.unpack("HI")
    history = reader.digest()
    epoch, seq = reader.unpack("QQ")
    previous_chain = reader.digest()
    (capture_time,) = reader.unpack("q")
    tree_digest = reader.digest()
    raw_bytes, stored_bytes, entries, blocks, last_object, reserved = reader.unpack("QQIIQI")

    require(length == 128, f"header: length {length}")
    require(flags < 16, f"header: flags {flags:#x}")
    require(0 < seq < (1 << 63) - 1, f"header: seq {seq}")
    require(0 < epoch < (1 << 63) - 1, f"header: epoch {epoch}")
    require(raw_bytes <= MAX_SEGMENT, f"header: {raw_bytes} raw bytes")
    require(entries <= MAX_ENTRIES, f"header: {entries} entries")
    require(last_object < FIRST_LOCAL_OBJECT, f"header: last object {last_object}")
    require(reserved == 0, "header: reserved bytes")
    require(blocks == -(-raw_bytes // MAX_BLOCK), f"header: {blocks} blocks")
    require(stored_bytes <= raw_bytes + 16 * blocks, f"header: {stored_bytes} stored bytes")
    require(not flags & 1 or entries == raw_bytes == 0, "header: entries of a baseline")
    return {
        "version": version,
        "flags": [name for bit, name in ((1, "baseline"), (2, "fuzzy"), (4, "external"), (8, "client")) if flags & bit],
        "history": history,
        "epoch": epoch,
        "seq": seq,
        "previous_chain": previous_chain,
        "capture_time": capture_time,
        "tree_digest": tree_digest,
        "raw_bytes": raw_bytes,
        "stored_bytes": stored_bytes,
        "entry_count": entries,
        "block_count": blocks,
        "last_object": last_object,
    }


def decode_block(reader):
    """One block as it is described, and its stored bytes."""
    start = reader.take(16)
    codec, reserved, stored, raw, checksum = struct.unpack("<B3sIII", start)
    require(codec < 2, f"block: codec {codec}")
    require(reserved == bytes(3), "block: reserved bytes")
    require(0 < raw <= MAX_BLOCK, f"block: {raw} raw bytes")
    require(stored == raw if codec == 0 else stored < raw, f"block: {stored} stored bytes")
    data = reader.take(stored)
    require(zlib.crc32(data, zlib.crc32(start[:12])) == checksum, "block: checksum")
    name = ("none", "zlib")[codec]
    return {"codec": name, "stored_bytes": stored, "raw_bytes": raw, "crc32": f"{checksum:08x}"}, data


def inflate(block, data):
    if block["codec"] == "none":
        return data
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(data, block["raw_bytes"] + 1)
    except zlib.error as error:
        raise Refused(f"block: {error}") from error
    require(stream.eof and not stream.unused_data, "block: zlib stream does not end where the block does")
    require(len(raw) == block["raw_bytes"], f"block: {len(raw)} bytes for {block['raw_bytes']}")
    return raw


def decode_name(reader):
    name = reader.take(reader.varint(MAX_NAME))
    require(name not in (b"", b".", b"..") and not set(name) & set(b"\0/"), f"entry: name {name!r}")
    return escaped(name)


def decode_metadata(reader):
    mode = reader.varint(0o17777)
    metadata = {
        "mode": f"{mode & 0o7777:04o}",
        "uid": reader.varint((1 << 32) - 1),
        "gid": reader.varint((1 << 32) - 1),
        "mtime_seconds": reader.svarint(),
        "mtime_nanoseconds": reader.varint(999_999_999),
    }
    if mode & 0o10000:
        metadata["attributes"] = decode_attributes(reader.take(reader.varint(MAX_ATTRIBUTES)))
    return metadata


def decode_attributes(data):
    reader = Reader(data, "extended attributes")
    attributes, last = {}, b""
    while reader.offset < len(data):
        name = reader.take(reader.varint(MAX_NAME))
        require(name > last and 0 not in name, f"entry: attribute {name!r}")
        attributes[escaped(name)] = escaped(reader.take(reader.varint(MAX_ATTRIBUTES)))
        last = name
    require(attributes, "entry: no attributes")
    return attributes


def decode_extent(reader, tag, sources):
    if tag == 1:
        length = reader.varint(MAX_CHUNK)
        offset = reader.offset
        crc = zlib.crc32(reader.take(length))
        return {"extent": "data", "raw_offset": offset, "length": length, "crc32": f"{crc:08x}"}
    if tag == 2:
        return {"extent": "hole", "length": reader.varint()}
    if tag in (3, 5):
        if tag == 3:
            source = reader.varint()
            require(source < len(sources), f"entry: source {source}")
        else:
            source = len(sources)
            number = reader.object()
            sources.append({"object": number, "content": reader.digest()})
        offset, length = reader.varint(), reader.varint()
        require(offset + length < 1 << 64, f"entry: offset {offset} of a copy")
        return {"extent": "copy", "source": source, "offset": offset, "length": length}
    if tag == 4:
        length, digest = reader.varint(MAX_CHUNK), reader.digest()
        require(digest != "0" * 32, "entry: fetch without a digest")
        return {"extent": "fetch", "length": length, "digest": digest}
    raise Refused(f"entry: extent's tag {tag}")


def decode_file(reader):
    sources = []
    extents = []
    total = blocks = 0
    while tag := reader.u8():
        require(len(extents) < MAX_FILE_BLOCKS, "entry: too many extents")
        extent = decode_extent(reader, tag, sources)
        require(extent["length"] > 0, "entry: empty extent")
        total += extent["length"]
        blocks += -(-extent["length"] // MAX_HOLE)
        require(total < 1 << 63, f"entry: {total} bytes of a file")
        require(blocks <= MAX_FILE_BLOCKS, f"entry: {blocks} blocks of a file")
        extents.append(extent)
    size = reader.varint()
    require(size == total, f"entry: size {size}, extents {total}")
    return {"sources": sources, "extents": extents, "size": size, "content": reader.digest()}


def decode_put(reader):
    number, kind = reader.object(), reader.u8()
    require(1 <= kind <= 6, f"entry: kind {kind}")
    entry = {"entry": "put", "object": number, "kind": KINDS[kind - 1]}
    entry |= decode_metadata(reader)
    if kind == 1:
        entry |= decode_file(reader)
    elif kind == 3:
        target = reader.take(reader.varint(MAX_TARGET))
        require(target and 0 not in target, "entry: target of a symlink")
        entry["target"] = escaped(target)
    elif kind >= 5:
        entry["major"] = reader.varint((1 << 32) - 1)
        entry["minor"] = reader.varint((1 << 32) - 1)
    return entry


def decode_filter(reader):
    text = reader.take(reader.varint(MAX_FILTER))
    require(text == b"" or text[-1:] == b"\n", "entry: end of a filter")
    rules = text.split(b"\n")[:-1]
    require(len(rules) <= MAX_RULES, f"entry: {len(rules)} rules of a filter")
    for rule in rules:
        require(rule[:2] in (b"+ ", b"- ") and 0 not in rule, f"entry: rule {rule!r}")
        require(0 < len(rule) - 2 <= MAX_PATTERN, f"entry: {len(rule) - 2} bytes of a pattern")
    return {"entry": "filter", "rules": [escaped(rule) for rule in rules]}


def decode_entry(reader):
    tag = reader.u8()
    if tag == 1:
        return decode_put(reader)
    if tag == 2:
        return {"entry": "metadata", "object": reader.object()} | decode_metadata(reader)
    if tag == 3:
        return {"entry": "bind", "parent": reader.object(), "name": decode_name(reader), "object": reader.object()}
    if tag == 4:
        return {"entry": "unbind", "parent": reader.object(), "name": decode_name(reader)}
    if tag == 5:
        return {"entry": "drop", "object": reader.object()}
    if tag == 6:
        return decode_filter(reader)
    if tag == 7:
        return {"entry": "request", "id": reader.digest()}
    raise Refused(f"entry: tag {tag}")


def decode(data):
    header = decode_header(data)
    end = 128 + header["stored_bytes"]
    require(len(data) == end + 40, f"segment: {end + 40} bytes needed, {len(data)} there")

    reader = Reader(data[128:end], "blocks")
    blocks = [decode_block(reader) for _ in range(header["block_count"])]
    require(reader.offset == len(reader.data), "blocks end too soon")
    require(sum(block["raw_bytes"] for block, _ in blocks) == header["raw_bytes"], "blocks: sum of raw bytes")

    trailer = Reader(data[end:], "trailer")
    require(trailer.take(8) == b"WALEND\r\n", "trailer: magic")

    body = Reader(b"".join(inflate(block, stored) for block, stored in blocks), "entry")
    entries = [decode_entry(body) for _ in range(header["entry_count"])]
    require(body.offset == len(body.data), "bytes behind the last entry")
    return {
        "header": header,
        "blocks": [block for block, _ in blocks],
        "entries": entries,
        "trailer": {"body_digest": trailer.digest(), "chain": trailer.digest()},
    }


def main(arguments):
    if len(arguments) < 2:
        print("usage: segment_decoder.py FILE...", file=sys.stderr)
        return 64
    sys.stdout.reconfigure(encoding="utf-8")
    status = 0
    for name in arguments[1:]:
        with open(name, "rb") as file:
            data = file.read()
        try:
            print(json.dumps(decode(data), indent=2, ensure_ascii=False))
        except Refused as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv))
