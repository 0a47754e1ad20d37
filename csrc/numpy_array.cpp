#include "numpy_array.h"

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <Python.h>
#include <numpy/arrayobject.h>

#include <new>

#include "dtypes.h"

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
    const auto itemsize = static_cast<npy_intp>(c10::elementSize(dtype));
    static_assert(max_dims <= NPY_MAXDIMS);
    npy_intp byte_strides[max_dims];
    for (std::size_t dim = 0; dim < strides.size(); ++dim) byte_strides[dim] = strides[dim] * itemsize;
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
    auto& copied = std::get<CopiedValues>(values);
    void* data = copied.data();  // before the memory moves: arguments are evaluated in any order
    if (auto* block = std::get_if<HostBlock>(&copied.memory)) {
        return make_array(copied.dtype, copied.sizes, copied.strides, data, &block_owner, std::move(*block));
    }
    return make_array(copied.dtype, copied.sizes, copied.strides, data, &ordinary_owner,
                      std::get<std::shared_ptr<OrdinaryBlock>>(std::move(copied.memory)));
}

}  // namespace tnb
