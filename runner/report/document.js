// Unpacks data and library, waits until the page has a size, and calls draw(data).
(() => {
  const kinds = { f4: Float32Array, f8: Float64Array, i4: Int32Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };

  async function unpacked(id) {
    const content = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
    return new Response(new Blob([content]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();
  }

  async function readData() {
    const buffer = await unpacked('data');
    const length = new DataView(buffer).getUint32(0, true);
    const { values, arrays } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    const typed = arrays.map(({ kind, at, length: size }) => new kinds[kind](buffer, 4 + length + at, size));
    const revive = (value) => {
      if (value === null || typeof value !== 'object') return value;
      if (Number.isInteger(value.$array)) return typed[value.$array];
      for (const key of Object.keys(value)) value[key] = revive(value[key]);
      return value;
    };
    return revive(values);
  }

  async function runLibrary() {
    if (document.getElementById('library') === null) return;
    const script = document.createElement('script');
    script.textContent = new TextDecoder().decode(await unpacked('library'));
    document.head.append(script);
  }

  // A frame may start at 0 x 0, where figures would be drawn without a size.
  const sized = () => new Promise((resolve) => {
    const observer = new ResizeObserver(([entry]) => {
      if (entry.contentRect.width > 0) {
        observer.disconnect();
        resolve();
      }
    });
    observer.observe(document.documentElement);
  });

  const painted = () => new Promise((resolve) => {
    requestAnimationFrame(() => requestAnimationFrame(resolve));
  });

  function show(problem) {
    window.FAILED = String(problem && problem.stack || problem);
    const line = document.createElement('p');
    line.setAttribute('role', 'alert');
    line.textContent = typeof DecompressionStream === 'undefined'
      ? 'The figures need a browser with DecompressionStream, in all browsers since 2023.'
      : `The figures could not be drawn: ${problem}`;
    document.body.prepend(line);
  }

  (async () => {
    try {
      const [data] = await Promise.all([readData(), runLibrary(), sized()]);
      await draw(data);
      await painted();
      window.READY = performance.now();
    } catch (problem) {
      show(problem);
    }
  })();
})();
