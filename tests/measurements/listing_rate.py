"""Measures how many names per second a listing of S3 gives, at a distance: folders at once, against page after page.

    python -m tests.measurements.listing_rate --folders 40 --files 2000 --milliseconds 100

SeaweedFS through a proxy on this machine, which adds the time to every request. In turn, three times each; the median.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from ddpm_seg import storage
from ddpm_seg.storage import s3_listing, stores
from tests.faulty_s3 import faulty_s3
from tests.seaweedfs import s3_server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", type=int, default=40)
    parser.add_argument("--files", type=int, default=2000, help="in each folder")
    parser.add_argument("--milliseconds", type=float, default=100.0)
    options = parser.parse_args()
    with s3_server() as server, faulty_s3(server.endpoint) as proxy:
        os.environ.update(server.environment())
        count = options.folders * options.files
        with ThreadPoolExecutor(32) as writers:
            uris = (f"s3://data/in/{number % options.folders:03}/{number:07}.png" for number in range(count))
            list(writers.map(lambda uri: storage.write_bytes(uri, b""), uris))
        os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint
        stores._open_filesystem.cache_clear()
        proxy.delay_s = options.milliseconds / 1000
        rates: dict[str, list[float]] = {"page after page": [], "folders at once": []}
        for _ in range(3):
            for way, list_all in zip(rates, (one_by_one, at_once), strict=True):
                rates[way].append(names_per_second(list_all, count))
    for way, found in rates.items():
        print(f"{way}: {statistics.median(found):.0f} names/s ({', '.join(f'{one:.0f}' for one in found)})")


def one_by_one() -> Iterator[s3_listing.Row]:
    listing = s3_listing._Listing("s3://data/in/", "data")
    return chain.from_iterable(listing.pages("in/", listing.page("in/")))


def at_once() -> Iterator[s3_listing.Row]:
    return s3_listing.s3_objects("s3://data/in/", "data", "in/")


def names_per_second(list_all: Callable[[], Iterator[s3_listing.Row]], count: int) -> float:
    started = time.perf_counter()
    assert sum(1 for _ in list_all()) == count
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
