// Reads and writes safetensors files: eight bytes with the length of the header, the header as JSON, then the data.

const READERS = {
  F32: buffer => new Float32Array(buffer),
  F64: buffer => Float32Array.from(new Float64Array(buffer)),
  BF16: buffer => new Float32Array(Uint32Array.from(new Uint16Array(buffer), bits => bits << 16).buffer),
  I32: buffer => new Int32Array(buffer),
  I64: buffer => Int32Array.from(new BigInt64Array(buffer), Number),
};

/** {name: {shape, x}} of a file's bytes, where x is a Float32Array or an Int32Array. */
export function read_tensors(bytes) {
  const begin = 8 + Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const {__metadata__, ...header} = JSON.parse(new TextDecoder().decode(bytes.subarray(8, begin)));
  return Object.fromEntries(Object.entries(header).map(([name, {dtype, shape, data_offsets: [from, to]}]) => {
    if (!READERS[dtype]) throw new Error(`${name} is ${dtype}; expected ${Object.keys(READERS).join(", ")}`);
    const part = new Uint8Array(bytes.subarray(begin + from, begin + to));  // a copy, so that its memory is aligned
    return [name, {shape, x: READERS[dtype](part.buffer)}];
  }));
}

/** The bytes of a file with these tensors. */
export function write_tensors(tensors) {
  const header = {}, entries = Object.entries(tensors);
  let end = 0;
  for (const [name, {shape, x}] of entries) {
    const size = shape.reduce((product, n) => product * n, 1);
    if (size !== x.length) throw new Error(`${name} has ${x.length} numbers; its shape [${shape}] has ${size}`);
    header[name] = {dtype: x instanceof Int32Array ? "I32" : "F32", shape, data_offsets: [end, end += 4 * size]};
  }
  const text = new TextEncoder().encode(JSON.stringify(header)), bytes = new Uint8Array(8 + text.length + end);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  for (const [name, {x}] of entries)
    bytes.set(new Uint8Array(x.buffer, x.byteOffset, x.byteLength), 8 + text.length + header[name].data_offsets[0]);
  return bytes;
}
