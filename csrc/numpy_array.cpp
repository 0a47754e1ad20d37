#include "numpy_array.h"

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <Python.h>
#include <numpy/arrayobject.h>

#include <algorithm>
#include <new>

#include "dtypes.h"
#include "gil.h"

namespace tnb {
namespace {

template <class Memory>
struct Owner {
    PyObject_HEAD Memory memory;
};

template <class Memory>
void dealloc(PyObject* self) {
    reinterpret_cast<Owner<Memory>*>(self)->memory.~Memory();
    Py_TYPE(self)->tp_free(self);
}

template <class Memory>
PyTypeObject owner_type(const char* name, const char* doc) {
    PyTypeObject type{};
    type.ob_base = PyVarObject{PyObject_HEAD_INIT(nullptr) 0};
    type.tp_name = name;
    type.tp_doc = doc;
    type.tp_basicsize = sizeof(Owner<Memory>);
    type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
    type.tp_dealloc = dealloc<Memory>;
    type.tp_free = PyObject_Free;
    return type;
}

PyTypeObject storage_owner =
    owner_type<c10::Storage>("torch_np_bridge._C.StorageOwner", "Keeps the storage of a tensor alive under an array.");
PyTypeObject block_owner =
    owner_type<HostBlock>("torch_np_bridge._C.BlockOwner", "The lease of an array on a block of page-locked memory.");
PyTypeObject ordinary_owner =
    owner_type<std::shared_ptr<OrdinaryBlock>>("torch_np_bridge._C.OrdinaryOwner", "The pageable memory of an array.");

template <class Memory>
PyObject* make_owner(PyTypeObject* type, Memory memory) {
    auto* owner = PyObject_New(Owner<Memory>, type);
    if (owner != nullptr) new (&owner->memory) Memory(std::move(memory));
    return reinterpret_cast<PyObject*>(owner);
}

// The one place where an array is made; `memory` is what it keeps alive.
template <class Memory>
PyObject* make_array(c10::ScalarType dtype, at::IntArrayRef sizes, at::IntArrayRef strides, void* data,
                     PyTypeObject* owner_type, Memory memory) {
    PyObject* descr = numpy_dtype(dtype);
    if (descr == nullptr) {
        PyErr_SetString(PyExc_SystemError, "a tensor whose dtype is not in the table came as far as its array");
        return nullptr;
    }
    const std::size_t itemsize = c10::elementSize(dtype);
    static_assert(max_dims <= NPY_MAXDIMS);
    npy_intp byte_strides[max_dims];
    // Without a sign: a stride that no element is reached by may be any number, and wraps here as it does in torch.
    for (std::size_t dim = 0; dim < strides.size(); ++dim) {
        byte_strides[dim] = static_cast<npy_intp>(static_cast<std::size_t>(strides[dim]) * itemsize);
    }
    Py_INCREF(descr);  // NewFromDescr takes a reference
    // Without data, as torch does it for tensors without elements, NumPy allocates: there is no memory to keep alive.
    PyObject* array =
        PyArray_NewFromDescr(&PyArray_Type, reinterpret_cast<PyArray_Descr*>(descr), static_cast<int>(sizes.size()),
                             sizes.data(), byte_strides, data, NPY_ARRAY_WRITEABLE, nullptr);
    if (array == nullptr || data == nullptr) return array;
    PyObject* owner = make_owner(owner_type, std::move(memory));
    if (owner == nullptr || PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(array), owner) != 0) {
        Py_DECREF(array);
        return nullptr;
    }
    return array;
}

}  // namespace

bool init_numpy() {
    return PyArray_ImportNumPyAPI() == 0 && PyType_Ready(&storage_owner) == 0 && PyType_Ready(&block_owner) == 0 &&
           PyType_Ready(&ordinary_owner) == 0;
}

PyObject* make_view(const at::Tensor& tensor) {
    // mutable: a copy-on-write storage must become its own before an array may write to it.
    void* data = tensor.mutable_data_ptr();
    // Arrays know no resize: as with Tensor.numpy(), the storage keeps its size from here on.
    tensor.storage().unsafeGetStorageImpl()->set_resizable(false);
    return make_array(tensor.scalar_type(), tensor.sizes(), tensor.strides(), data, &storage_owner, tensor.storage());
}

PyObject* make_array(HostValues values) {
    if (const auto* tensor = std::get_if<at::Tensor>(&values)) return make_view(*tensor);
    TORCH_INTERNAL_ASSERT(std::holds_alternative<CopiedValues>(values), "an array of the caller's is there already");
    auto& copied = std::get<CopiedValues>(values);
    if (auto* block = std::get_if<HostBlock>(&copied.memory)) {
        return make_array(copied.dtype, copied.sizes, copied.strides, copied.data, &block_owner, std::move(*block));
    }
    return make_array(copied.dtype, copied.sizes, copied.strides, copied.data, &ordinary_owner,
                      std::get<std::shared_ptr<OrdinaryBlock>>(std::move(copied.memory)));
}

namespace {

// The lease under an array, through the arrays that it is a view of.
const HostBlock* lease_of(PyArrayObject* array) {
    PyObject* base = PyArray_BASE(array);
    while (base != nullptr && PyArray_Check(base)) base = PyArray_BASE(reinterpret_cast<PyArrayObject*>(base));
    if (base == nullptr || Py_TYPE(base) != &block_owner) return nullptr;
    return &reinterpret_cast<Owner<HostBlock>*>(base)->memory;
}

// Dimensions in the order of their strides, the innermost first; those of one element have no say.
at::DimVector by_stride(at::IntArrayRef sizes, at::IntArrayRef strides) {
    at::DimVector dims;
    for (std::size_t dim = 0; dim < sizes.size(); ++dim) {
        if (sizes[dim] > 1) dims.push_back(static_cast<std::int64_t>(dim));
    }
    std::sort(dims.begin(), dims.end(), [strides](auto a, auto b) { return strides[a] < strides[b]; });
    return dims;
}

}  // namespace

std::optional<Destination> take_destination(PyObject* object, const at::Tensor& tensor, c10::ScalarType dtype) {
    if (!PyArray_Check(object)) return std::nullopt;
    auto* array = reinterpret_cast<PyArrayObject*>(object);
    auto* expected = reinterpret_cast<PyArray_Descr*>(numpy_dtype(dtype));
    if (!PyArray_EquivTypes(PyArray_DESCR(array), expected) || !PyArray_ISBEHAVED(array)) return std::nullopt;
    if (at::IntArrayRef(PyArray_DIMS(array), static_cast<std::size_t>(PyArray_NDIM(array))) != tensor.sizes()) {
        return std::nullopt;
    }
    Destination out;
    out.data = static_cast<char*>(PyArray_DATA(array));
    const auto itemsize = static_cast<npy_intp>(c10::elementSize(dtype));
    out.bytes = static_cast<std::size_t>(tensor.numel() * itemsize);
    for (std::int64_t dim = 0; dim < tensor.dim(); ++dim) {
        const npy_intp stride = PyArray_STRIDE(array, static_cast<int>(dim));
        if (tensor.size(dim) > 1 && stride % itemsize != 0) return std::nullopt;
        out.strides.push_back(tensor.size(dim) > 1 ? stride / itemsize : 1);
    }
    out.dense = true;
    out.owner = keep_alive(object);
    if (tensor.numel() == 0) return out;
    std::int64_t reached = 1;  // elements of the dimensions so far, gaps included
    for (const std::int64_t dim : by_stride(tensor.sizes(), out.strides)) {
        if (out.strides[dim] < reached) return std::nullopt;  // backwards, or over itself
        out.dense = out.dense && out.strides[dim] == reached;
        reached = out.strides[dim] * tensor.size(dim);
    }
    if (const HostBlock* lease = lease_of(array)) out.block = lease->share(0);
    return out;
}

std::optional<std::size_t> find_overlap(const std::vector<Destination>& destinations) {
    std::vector<std::size_t> order;
    for (std::size_t index = 0; index < destinations.size(); ++index) {
        if (destinations[index].dense && destinations[index].bytes > 0) order.push_back(index);
    }
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return destinations[a].data < destinations[b].data; });
    for (std::size_t step = 1; step < order.size(); ++step) {
        const std::size_t before = order[step - 1];
        if (destinations[before].data + destinations[before].bytes > destinations[order[step]].data) return order[step];
    }
    return std::nullopt;
}

bool fill_array(PyObject* array, const at::Tensor& host_tensor) {
    // Not make_view(): nothing is left behind that would forbid the tensor to be resized, or to share by copy-on-write.
    auto* data = const_cast<void*>(host_tensor.const_data_ptr());
    PyObject* values = make_array(host_tensor.scalar_type(), host_tensor.sizes(), host_tensor.strides(), data,
                                  &storage_owner, host_tensor.storage());
    if (values == nullptr) return false;
    const int status =
        PyArray_CopyInto(reinterpret_cast<PyArrayObject*>(array), reinterpret_cast<PyArrayObject*>(values));
    Py_DECREF(values);
    return status == 0;
}

}  // namespace tnb
