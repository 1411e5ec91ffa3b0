"""Batches of images and texts, and devices whose memory is too small for them."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import CPU, TIMEOUT
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.checkpoints.load import load_model
from longclip_cli.errors import DeviceError
from longclip_cli.pipeline.cache import ImageInput, TextInput
from longclip_cli.pipeline.encode import CPU_LIMITS, GPU_LIMITS, BatchLimits, Encoder, text_batches
from longclip_cli.pipeline.load import load_text


def random_images(count):
    generator = torch.Generator().manual_seed(0)
    return [ImageInput(torch.randint(256, (3, 112, 112), dtype=torch.uint8, generator=generator)) for _ in range(count)]


def count_calls(monkeypatch, model, name):
    sizes = []
    encode = getattr(model, name)
    monkeypatch.setattr(model, name, lambda *batch: sizes.append(len(batch[-1])) or encode(*batch))
    return sizes


def test_what_is_shared_is_encoded_once_and_what_is_encoded_not_again(model, monkeypatch):
    images, texts = random_images(3), [load_text(text, 248) for text in ("one", "two", "three")]
    encoder = Encoder(model, CPU, batch_size=2)
    image_calls = count_calls(monkeypatch, model, "encode_image")
    text_calls = count_calls(monkeypatch, model, "encode_text")
    order = [0, 1, 0, 2, 2, 0]
    features = encoder.encode_images(images[i] for i in order), encoder.encode_texts(texts[i] for i in order)
    assert (image_calls, text_calls) == ([2, 1], [3])
    again = encoder.encode_images(images[i] for i in order), encoder.encode_texts(texts[i] for i in order)
    assert (image_calls, text_calls) == ([2, 1], [3])
    for first, second in zip(features, again, strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first[0], first[2])
        assert not torch.equal(first[0], first[1])


def test_what_is_encoded_holds_neither_its_pixels_nor_its_batch(model):
    images, texts = random_images(5), [load_text(text, 248) for text in ("one", "two", "three")]
    encoder = Encoder(model, CPU)
    encoder.encode_images(images)
    encoder.encode_texts(texts)
    for shared in (*images, *texts):
        assert shared.features.untyped_storage().nbytes() == 4 * model.sizes.embed_dim
    assert {image.pixel_values for image in images} == {text.token_ids for text in texts} == {None}


@pytest.mark.parametrize("limits", [CPU_LIMITS, GPU_LIMITS, BatchLimits(1024, 300, 40), BatchLimits(1024, 10, 40)])
def test_texts_have_the_features_that_each_has_alone_however_they_are_batched(model, monkeypatch, limits):
    texts = [" ".join(["word"] * count) + f" {count}" for count in (*range(0, 240, 9), 3, 3, 60)]
    alone = [Encoder(model, CPU).encode_texts([load_text(text, 248)]) for text in texts]
    encoder = Encoder(model, CPU)
    monkeypatch.setattr(encoder, "_limits", limits)
    together = encoder.encode_texts([load_text(text, 248) for text in texts])
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=2e-6)


def test_small_networks_get_larger_batches(model):
    assert Encoder(model, CPU).batch_size == CPU_LIMITS.image_positions // model.sizes.image_positions
    assert Encoder(model, CPU, batch_size=5).batch_size == 5


@given(st.lists(st.integers(2, 248), min_size=1, max_size=60), st.integers(1, 2000), st.integers(0, 500))
def test_text_batches_hold_every_text_once_with_few_positions_and_little_padding(lengths, positions, worth_a_group):
    texts = [TextInput([length] * length, is_cut=False) for length in lengths]
    batches = list(text_batches(texts, positions, worth_a_group))
    groups = [group for batch in batches for group in batch]
    assert {id(text) for group in groups for text in group} == {id(text) for text in texts}
    assert [len(text.token_ids) for group in groups for text in group] == sorted(lengths)
    padded = [[len(group) * len(group[-1].token_ids) for group in batch] for batch in batches]
    assert all(
        sum(sizes) <= positions or len(batch) == len(batch[0]) == 1
        for batch, sizes in zip(batches, padded, strict=True)
    )
    # No batch could have taken in the first group of the next.
    assert all(sum(sizes) + after[0] > positions for sizes, after in itertools.pairwise(padded))
    for group, size in zip(groups, itertools.chain.from_iterable(padded), strict=True):
        assert size - sum(len(text.token_ids) for text in group) <= worth_a_group


def fail_above(model, monkeypatch, name, most, error=torch.OutOfMemoryError, message="out of memory: tried to"):
    encode = getattr(model, name)

    def encode_few(*batch):
        if len(batch[-1]) > most:
            raise error(message)
        return encode(*batch)

    monkeypatch.setattr(model, name, encode_few)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_out_of_memory_halves_the_batch_once_for_the_rest_of_the_run(model, monkeypatch, caplog, error):
    expected = Encoder(model, CPU).encode_images(random_images(20))
    encoder = Encoder(model, CPU, batch_size=16)
    fail_above(model, monkeypatch, "encode_image", 5, error)
    for _ in range(2):
        assert torch.allclose(encoder.encode_images(random_images(20)), expected, atol=1e-5)
    assert [record.message for record in caplog.records] == [
        f"out of memory on cpu: going on with --batch-size {size}" for size in (8, 4)
    ]


def test_out_of_memory_with_texts_halves_the_batch_too(model, monkeypatch):
    texts = [f"{'word ' * 60}{number}" for number in range(8)]
    expected = Encoder(model, CPU).encode_texts(load_text(text, 248) for text in texts)
    encoder = Encoder(model, CPU, batch_size=16)
    fail_above(model, monkeypatch, "encode_text", 2)
    assert torch.allclose(encoder.encode_texts(load_text(text, 248) for text in texts), expected, atol=1e-5)


def test_other_errors_of_the_device_are_left_as_they_are(model, monkeypatch):
    fail_above(model, monkeypatch, "encode_image", 0, ValueError)
    with pytest.raises(ValueError, match="out of memory"):
        Encoder(model, CPU, batch_size=2).encode_images(random_images(3))
    monkeypatch.undo()
    monkeypatch.setattr(model, "encode_image", lambda _: torch.empty(2) @ torch.empty(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        Encoder(model, CPU, batch_size=2).encode_images(random_images(3))


def test_out_of_memory_with_a_single_image_ends_the_run(model, monkeypatch):
    fail_above(model, monkeypatch, "encode_image", 0)
    with pytest.raises(DeviceError, match="out of memory on cpu with a single image") as raised:
        Encoder(model, CPU, batch_size=2).encode_images(random_images(3))
    assert "--precision bf16" in str(raised.value)


def test_a_single_image_is_tried_before_the_run_ends(model, monkeypatch):
    expected = Encoder(model, CPU).encode_images(random_images(3))
    encoder = Encoder(model, CPU, batch_size=2)
    fail_above(model, monkeypatch, "encode_image", 1)
    assert torch.allclose(encoder.encode_images(random_images(3)), expected, atol=1e-5)
    assert encoder.batch_size == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 20.00 GiB."),
        (RuntimeError, "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        (RuntimeError, "MPS backend out of memory (MPS allocated: 9.05 GB)"),
        (RuntimeError, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        (RuntimeError, "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        (RuntimeError, "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        (RuntimeError, "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
        (RuntimeError, "[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory: you tried"),
        (MemoryError, ""),
    ],
)
def test_out_of_memory_is_known_by_all_its_names(model, monkeypatch, error, message):
    encoder = Encoder(model, CPU, batch_size=4)
    fail_above(model, monkeypatch, "encode_image", 2, error, message)
    encoder.encode_images(random_images(4))
    assert encoder.batch_size == 2
    monkeypatch.setattr("longclip_cli.checkpoints.load.converted", lambda *_, **__: raise_error(error(message)))
    with pytest.raises(DeviceError, match=r"^out of memory on cpu with the model .*--precision .*--model longclip-b$"):
        load_model("demo", CPU, torch.float32)


def raise_error(error):
    raise error


def test_other_errors_while_loading_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(
        "longclip_cli.checkpoints.load.converted", lambda *_, **__: raise_error(RuntimeError("no kernel"))
    )
    with pytest.raises(RuntimeError, match=r"^no kernel$"):
        load_model("demo", CPU, torch.float32)


@pytest.mark.parametrize("name", ["encode_images", "encode_texts"])
def test_out_of_memory_for_the_features_halves_the_batch(model, monkeypatch, name):
    """The features of all items are put together after the last batch."""
    items = random_images(5) if name == "encode_images" else [load_text(str(number), 248) for number in range(5)]
    stack, errors = torch.stack, [torch.OutOfMemoryError("CUDA out of memory")]

    def stack_at_second_try(tensors, *arguments, **options):
        if tensors[0].shape == (model.sizes.embed_dim,) and errors:
            raise errors.pop()
        return stack(tensors, *arguments, **options)

    monkeypatch.setattr(torch, "stack", stack_at_second_try)
    encoder = Encoder(model, CPU, batch_size=4)
    assert getattr(encoder, name)(items).shape == (5, 64)
    assert (encoder.batch_size, errors) == (2, [])


def test_threads_that_fail_with_one_batch_size_halve_it_once(model, monkeypatch):
    encode, all_have_failed = model.encode_image, threading.Barrier(4, timeout=TIMEOUT)

    def encode_few(batch):
        if len(batch) > 8:
            all_have_failed.wait()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(batch)

    monkeypatch.setattr(model, "encode_image", encode_few)
    encoder = Encoder(model, CPU, batch_size=16)
    with ThreadPoolExecutor(4) as pool:
        for features in pool.map(lambda _: encoder.encode_images(random_images(16)), range(4)):
            assert features.shape == (16, 64)
    assert encoder.batch_size == 8
