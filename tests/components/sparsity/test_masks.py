"""Densities and exact counts: against hand-solved cases and published figures."""

import math

import pytest

from runner.components.sparsity._masks import counts, densities

TWO = {"small": (10, 10), "large": (100, 100)}


def wide_resnet_22_2():
    """Shapes and multiply-adds of the layers of WRN-22-2 on 32x32 images."""
    shapes, macs, width, side = {"stem": (16, 3, 3, 3)}, {"stem": 16 * 27 * 32**2}, 16, 32
    for group, out in enumerate((32, 64, 128)):
        for block in range(3):
            side //= 2 if group and block == 0 else 1
            layers = {"a": (out, width, 3, 3), "b": (out, out, 3, 3)} | ({"shortcut": (out, width, 1, 1)} if width != out else {})
            for name, shape in layers.items():
                shapes[f"{group}.{block}.{name}"] = shape
                macs[f"{group}.{block}.{name}"] = math.prod(shape) * side**2
            width = out
    return shapes | {"head": (10, 128)}, macs | {"head": 1280}


def resnet_50():
    """Shapes and multiply-adds of the layers of ResNet-50 on 224x224 images: bottlenecks whose 3x3 convolution strides."""
    shapes, macs, width, side = {"stem": (64, 3, 7, 7)}, {"stem": 64 * 147 * 112**2}, 64, 56

    def layer(name, out, inputs, kernel, side):
        shapes[name] = (out, inputs, kernel, kernel)
        macs[name] = out * inputs * kernel**2 * side**2

    for stage, (blocks, inner) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            after = side // 2 if stage and block == 0 else side
            name = f"{stage}.{block}"
            layer(f"{name}.a", inner, width, 1, side)
            layer(f"{name}.b", inner, inner, 3, after)
            layer(f"{name}.c", 4 * inner, inner, 1, after)
            if block == 0:
                layer(f"{name}.shortcut", 4 * inner, width, 1, after)
            width, side = 4 * inner, after
    return shapes | {"head": (1000, 2048)}, macs | {"head": 2048000}


@pytest.mark.parametrize(("sparsity", "published"), [(0.8, 0.42), (0.9, 0.24), (0.95, 0.12), (0.965, 0.09)])
def test_operations_of_a_sparse_resnet_50_as_the_authors_report_them(sparsity, published):
    """google-research/rigl, README: inference FLOPs with ERK relative to 8.2e9 (which count a little more than convolutions)."""
    shapes, macs = resnet_50()
    assert 2 * sum(macs.values()) == pytest.approx(8.2e9, rel=0.01)
    assert sum(macs[n] * d for n, d in densities(shapes, sparsity, "erk").items()) / sum(macs.values()) == pytest.approx(published, abs=0.01)


@pytest.mark.parametrize("kind", ["erdos_renyi", "erk"])
def test_densities_solved_by_hand(kind):
    # 90 %: epsilon = 1010 / (0.2 * 100 + 0.02 * 10000); 80 %: the small layer would exceed 1, and 1920 weights are left for the large one
    found = densities(TWO, 0.9, kind)
    assert found["small"] == pytest.approx(0.2 * 1010 / 220)
    assert found["large"] == pytest.approx(0.02 * 1010 / 220)
    assert densities(TWO, 0.8, kind) == pytest.approx({"small": 1.0, "large": 0.192})


def test_kernels_count_in_erk_alone():
    shapes = {"conv": (16, 8, 3, 3), "linear": (64, 64)}
    erk, er = densities(shapes, 0.9, "erk"), densities(shapes, 0.9, "erdos_renyi")
    assert erk["conv"] / erk["linear"] == pytest.approx((30 / 1152) / (128 / 4096))
    assert er["conv"] / er["linear"] == pytest.approx((24 / 128) / (128 / 4096))


def test_operations_of_a_sparse_wide_resnet_as_published():
    """varun19299/rigl-reproducibility, docs, main results: at 80 % sparsity WRN-22-2 costs 0.20x with uniform masks and 0.35x with ERK."""
    shapes, macs = wide_resnet_22_2()
    cost = lambda kind: sum(macs[n] * d for n, d in densities(shapes, 0.8, kind).items()) / sum(macs.values())
    assert cost("uniform") == pytest.approx(0.20)
    assert round(cost("erk"), 2) == 0.35


@pytest.mark.parametrize("kind", ["uniform", "erdos_renyi", "erk"])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.8, 0.9, 0.95, 0.98, 0.999])
def test_the_total_is_exact_and_no_layer_exceeds_itself(kind, sparsity):
    shapes = wide_resnet_22_2()[0]
    size = {n: math.prod(s) for n, s in shapes.items()}
    found = counts(shapes, sparsity, kind)
    assert sum(found.values()) == round((1 - sparsity) * sum(size.values()))
    assert all(0 <= found[n] <= size[n] for n in shapes)
    assert all(0 < d <= 1 + 1e-12 for d in densities(shapes, sparsity, kind).values())
