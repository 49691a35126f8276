"""Tables of metrics in plain text."""

from rahf.evaluation import text_tables

METRICS = {
    "first": {"plcc": 0.91234, "mse": 0.012, "n": 1256},
    "map": {"mse": 0.5, "cc": -0.25, "n": 3, "n_empty": 1, "n_nonempty": 2},
    "second_score": {"plcc": -0.5, "mse": 1.0, "n": 7},
    "empty_map": {"mse": 0.125, "n": 1, "n_empty": 1, "n_nonempty": 0},
}


def test_kinds_have_their_own_block_and_columns_align():
    assert text_tables.render(METRICS) == (
        "              PLCC ^    MSE v  images\n"
        "first          0.912  0.01200   1,256\n"
        "second_score  -0.500  1.00000       7\n"
        "\n"
        "             MSE v    CC ^  images  GT=0  GT>0\n"
        "map        0.50000  -0.250       3     1     2\n"
        "empty_map  0.12500       -       1     1     0"
    )


def test_nothing_to_show_and_unknown_metrics():
    assert text_tables.render({}) == ""
    assert text_tables.render({"x": {"mine": 0.5, "n": 1}}) == (
        "    mine  images\nx  0.500       1"
    )
