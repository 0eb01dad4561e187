// The calls of torch's operators that a step was recorded to make, made for many steps without Python.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ScalarOps.h>

using at::Tensor;
using c10::IValue;

namespace {

// Tensors of an argument: their slots, -1 for none.
struct Taken {
  long place;
  bool is_list, is_optional;
  std::vector<long> slots;
};

struct Call {
  c10::OperatorHandle op;
  std::vector<IValue> arguments;
  std::vector<Taken> taken;
  std::vector<long> results;
  std::vector<long> last_used;
};

struct Step {
  std::vector<Tensor> slots;
  std::vector<Call> before, calls;
  bool is_begun = false;
  std::string error;
};

IValue number(const c10::Type &type, char kind, long whole, double real) {
  if (type.kind() == c10::TypeKind::FloatType) return kind == 'd' ? real : (double)whole;
  if (type.kind() == c10::TypeKind::TensorType) {
    Tensor made = c10::scalar_to_tensor(kind == 'd'   ? c10::Scalar(real)
                                        : kind == 'b' ? c10::Scalar((bool)whole)
                                                      : c10::Scalar((int64_t)whole));
    made.unsafeGetTensorImpl()->set_wrapped_number(true);
    return made;
  }
  return kind == 'd' ? IValue(real) : kind == 'b' ? IValue((bool)whole) : IValue((int64_t)whole);
}

c10::TypePtr type_of(const c10::OperatorHandle &op, long place) {
  c10::TypePtr type = op.schema().arguments()[place].type();
  while (auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
  return type;
}

void make(std::vector<Tensor> &slots, Call &call, std::vector<IValue> &stack) {
  stack = call.arguments;
  for (const Taken &taken : call.taken) {
    if (!taken.is_list) {
      stack[taken.place] = slots[taken.slots[0]];
    } else if (taken.is_optional) {
      c10::List<std::optional<Tensor>> list;
      for (long slot : taken.slots) list.push_back(slot < 0 ? std::optional<Tensor>() : slots[slot]);
      stack[taken.place] = list;
    } else {
      c10::List<Tensor> list;
      for (long slot : taken.slots) list.push_back(slots[slot]);
      stack[taken.place] = list;
    }
  }
  call.op.callBoxed(stack);
  size_t next = 0;
  auto keep = [&](const Tensor &one) {
    const long slot = call.results.at(next++);
    if (slot >= 0) slots[slot] = one;
  };
  for (IValue &found : stack) {
    if (found.isTensorList())
      for (const Tensor &one : found.toTensorVector()) keep(one);
    else
      keep(found.isTensor() ? std::move(found).toTensor() : Tensor());
  }
  for (long slot : call.last_used) slots[slot] = Tensor();
}

template <class Done> const char *caught(Step *step, Done done) {
  try {
    done();
    return nullptr;
  } catch (const c10::Error &error) {
    step->error = error.what_without_backtrace();
  } catch (const std::exception &error) {
    step->error = error.what();
  }
  return step->error.c_str();
}

}  // namespace

extern "C" {

Step *new_step(long slots) {
  Step *step = new Step;
  step->slots.resize(slots);
  return step;
}

void delete_step(Step *step) { delete step; }

// Begins a call, made once before the first step where nothing that it reads changes.
const char *add_call(Step *step, int is_before, const char *name, const char *overload) {
  return caught(step, [&] {
    auto &calls = is_before ? step->before : step->calls;
    auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, overload);
    calls.push_back({op, {}, {}, {}, {}});
    for (const auto &argument : op.schema().arguments())
      calls.back().arguments.push_back(argument.default_value().value_or(IValue()));
  });
}

// Kinds: n none, i int, d double, b bool, s text, t tensor; I, D, B, T are lists of them.
const char *add_argument(Step *step, int is_before, long place, char kind, long count, const long *whole,
                         const double *real, const char *text) {
  return caught(step, [&] {
    Call &call = (is_before ? step->before : step->calls).back();
    IValue &argument = call.arguments.at(place);
    auto type = type_of(call.op, place);
    auto list = type->cast<c10::ListType>();
    if (kind == 'n') {
      argument = IValue();
    } else if (kind == 's') {
      argument = type->kind() == c10::TypeKind::DeviceObjType ? IValue(c10::Device(text)) : IValue(std::string(text));
    } else if (kind == 't' || kind == 'T') {
      bool is_optional = list && list->getElementType()->kind() == c10::TypeKind::OptionalType;
      call.taken.push_back({place, (bool)list, is_optional, {whole, whole + count}});
    } else if (!list) {
      argument = number(*type, kind, whole[0], real[0]);
    } else if (list->getElementType()->kind() == c10::TypeKind::FloatType) {
      c10::List<double> made;
      for (long i = 0; i < count; ++i) made.push_back(kind == 'D' ? real[i] : (double)whole[i]);
      argument = made;
    } else if (kind == 'B') {
      c10::List<bool> made;
      for (long i = 0; i < count; ++i) made.push_back((bool)whole[i]);
      argument = made;
    } else {
      c10::List<int64_t> made;
      for (long i = 0; i < count; ++i) made.push_back(whole[i]);
      argument = made;
    }
  });
}

// Ends a call: the slots of its results, -1 for none, and those that no later call reads.
void end_call(Step *step, int is_before, long results, const long *result, long last, const long *last_used) {
  Call &call = (is_before ? step->before : step->calls).back();
  call.results.assign(result, result + results);
  call.last_used.assign(last_used, last_used + last);
}

// Fills a slot with a tensor whose memory is kept by the caller.
void set_slot(Step *step, long slot, void *data, int dtype, long dim, const long *sizes, const long *strides) {
  at::IntArrayRef shape((const int64_t *)sizes, dim), steps((const int64_t *)strides, dim);
  step->slots[slot] = at::from_blob(data, shape, steps, at::TensorOptions().dtype((at::ScalarType)dtype));
}

// Makes steps. Pairs of slots: inputs of all steps and of one, states before a step and after it, outputs of one step
// and of all, states after the last step and where they are copied to.
const char *make_steps(Step *step, long steps, long inputs, const long *input, long states, const long *state,
                       long outputs, const long *output, long copies, const long *copied) {
  return caught(step, [&] {
    at::AutoDispatchBelowAutograd guard;
    auto &slots = step->slots;
    std::vector<IValue> stack;
    if (!step->is_begun)
      for (Call &call : step->before) make(slots, call, stack);
    step->is_begun = true;
    std::vector<Tensor> after(states);
    for (long at = 0; at < steps; ++at) {
      for (long i = 0; i < inputs; ++i) slots[input[2 * i + 1]] = slots[input[2 * i]].select(0, at);
      for (Call &call : step->calls) make(slots, call, stack);
      for (long i = 0; i < outputs; ++i) {
        Tensor to = slots[output[2 * i + 1]].select(0, at), from = slots[output[2 * i]];
        to.copy_(to.dim() > 0 && from.size(0) != to.size(0) ? from.narrow(0, 0, to.size(0)) : from);
      }
      for (long i = 0; i < states; ++i) {
        const Tensor &before = slots[state[2 * i]], &made = slots[state[2 * i + 1]];
        after[i] = made.strides() == before.strides() ? made : at::empty_like(before).copy_(made);
      }
      for (long i = 0; i < states; ++i) slots[state[2 * i]] = std::move(after[i]);
    }
    for (long i = 0; i < copies; ++i) slots[copied[2 * i + 1]].copy_(slots[copied[2 * i]]);
  });
}
}
