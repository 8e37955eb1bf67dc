// safetensors files: docs/golden-format.md describes the format.

const READERS = {
  F32: (buffer) => new Float32Array(buffer),
  F64: (buffer) => Float32Array.from(new Float64Array(buffer)),
  // bfloat16 is the upper half of a float32, so a value is widened exactly.
  BF16: (buffer) => new Float32Array(Uint32Array.from(new Uint16Array(buffer), half => half << 16).buffer),
  I32: (buffer) => new Int32Array(buffer),
  I64: (buffer) => Int32Array.from(new BigInt64Array(buffer), Number),
};

/** name -> typed array, of a file's bytes. Floats become Float32Array, whole numbers Int32Array. */
export function read_tensors(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true)), data = 8 + length;
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, data))), tensors = {};
  delete header.__metadata__;
  for (const [name, {dtype, data_offsets: [begin, end]}] of Object.entries(header)) {
    if (!(dtype in READERS)) throw new RangeError(`${name}: expected ${Object.keys(READERS).join(", ")}; got ${dtype}`);
    tensors[name] = READERS[dtype](new Uint8Array(bytes.subarray(data + begin, data + end)).buffer);  // an aligned copy
  }
  return tensors;
}

/** The bytes of a file. tensors: name -> {x: Float32Array or Int32Array, shape}. */
export function write_tensors(tensors) {
  const header = {};
  let at = 0;
  for (const [name, {x, shape}] of Object.entries(tensors)) {
    const dtype = x instanceof Int32Array ? "I32" : "F32";
    header[name] = {dtype, shape, data_offsets: [at, at += 4 * x.length]};
  }
  const text = new TextEncoder().encode(JSON.stringify(header)), bytes = new Uint8Array(8 + text.length + at);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  at = 8 + text.length;
  for (const {x} of Object.values(tensors)) {
    bytes.set(new Uint8Array(x.buffer, x.byteOffset, 4 * x.length), at);
    at += 4 * x.length;
  }
  return bytes;
}
