"""Reading ahead: everything in order, never further ahead than there are threads, and errors where they belong."""

import threading

import pytest

from diagnostics.images.read_ahead import read_ahead


def test_all_comes_in_order_and_no_more_is_begun_than_threads_ahead():
    begun, lock = [], threading.Lock()

    def work(number):
        with lock:
            begun.append(number)
        return number**2

    results = []
    for number, squares in read_ahead(range(20), work, 3):
        results.append((number, squares))
        assert len(begun) <= number + 4
    assert results == [(number, number**2) for number in range(20)]
    assert sorted(begun) == list(range(20))


def test_an_error_is_raised_where_its_source_would_have_come():
    values = []
    with pytest.raises(ZeroDivisionError):
        values.extend(source for source, _ in read_ahead([3, 2, 1, 0, 4], lambda number: 6 / number, 2))
    assert list(read_ahead([], abs, 2)) == []
