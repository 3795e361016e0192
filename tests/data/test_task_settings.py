"""What a study says of the pictures that it leaves out."""

from dataclasses import replace

from lib.study import params


def test_pictures_that_are_left_out_are_named_unless_the_study_draws_them() -> None:
    mini = params.load().tasks
    assert mini.limits == ""
    others = replace(mini, source="datasets", train_per_class=16, test_per_class={"pets": 14, "dtd": 11, "all": 0})
    assert others.limits == "At most 16 training pictures of a class; test pictures of a class: pets 14, dtd 11."
    assert replace(others, train_per_class=0, test_per_class=0).limits == ""
