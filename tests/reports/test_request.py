"""What a decision was asked for, read from its file."""

import json

import pytest

from camel_jax.reports.request import Request, read_request

TOLD = {"size": "400K", "tokens": 1234567.0, "objective": "mean loss", "limits": []}


def put(tmp_path, told):
    path = tmp_path / "mixture.json"
    path.write_text(json.dumps(told))
    return path


def test_a_request_comes_back_as_it_was_written(tmp_path):
    asked = Request("7B", "1T", near=0.2, limits={"max_domains": 3})
    assert read_request(put(tmp_path, TOLD | {"request": asked.to_dict()})) == asked


def test_without_a_request_the_target_of_the_file_is_kept_to_the_last_token(tmp_path):
    assert read_request(put(tmp_path, TOLD)) == Request("400K", "1234567")
    assert read_request(put(tmp_path, {"weights": {}})) is None


@pytest.mark.parametrize("more", [{"limits": [{"name": "code"}]}, {"objective": "loss/code"}])
def test_limits_and_objectives_that_are_not_in_the_file_are_not_made_up(tmp_path, more):
    with pytest.raises(ValueError, match="it does not hold what was asked for"):
        read_request(put(tmp_path, TOLD | more))
