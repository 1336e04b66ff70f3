// The other end of infra.report.encode: bytes to an example.

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function fromBase64(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

/** A blob as {id, text, starts, ends, mask, steps, targets, decompositions, scores(d, k), exact, ...}. */
async function decodeExample(blob) {
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const first = view.getUint32(0, true);
  const [head, body] = await Promise.all([inflate(blob.subarray(4, 4 + first)), inflate(blob.subarray(8 + first))]);
  const size = new DataView(head.buffer).getUint32(0, true);
  const utf8 = new TextDecoder();
  const header = JSON.parse(utf8.decode(head.subarray(4, 4 + size)));
  const { n } = header;
  let at = 4 + size;
  const take = (bytes) => head.slice(at, (at += bytes));
  const ints = (kind) => (kind === "uint16" ? new Uint16Array(take(2 * n).buffer) : new Uint32Array(take(4 * n).buffer));
  const text = utf8.decode(take(header.text));
  const gaps = ints(header.gap);
  const lengths = ints(header.length);
  const mask = take(n);
  const classCodes = header.classes.length ? take(n) : null;
  const starts = new Uint32Array(n);
  const ends = new Uint32Array(n);
  for (let t = 0, end = 0; t < n; t++) {
    starts[t] = end + gaps[t];
    end = ends[t] = starts[t] + lengths[t];
  }
  const K = header.targets.length;
  const exact = header.levels === null;
  const stored = exact ? new Float32Array(body.buffer) : new Int8Array(body.buffer);
  const scores = (d, k) => {
    const row = stored.subarray((d * K + k) * n, (d * K + k + 1) * n);
    if (exact) return row;
    const max = header.max[d][k];
    return Float32Array.from(row, (q) => Math.sign(q) * (q / header.levels) ** 2 * max);
  };
  return { ...header, text, starts, ends, mask, scores, exact, classOf: (t) => (classCodes ? header.classes[classCodes[t]] : null) };
}
