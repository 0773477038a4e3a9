"""Scripts for the page: the line between before and after moves by arrow keys too, which Gradio's slider lacks; on a
phone the job that begins comes into view; leaving the page while a job runs is asked about."""

SCRIPT = """<script>
(() => {
  const STEP = 0.05;
  const handle = () => document.querySelector('#stage .slider-wrap .outer');
  const share = (line, wrap) => {
    const a = line.getBoundingClientRect(), b = wrap.getBoundingClientRect();
    return Math.min(1, Math.max(0, (a.left + a.width / 2 - b.left) / b.width));
  };
  const dress = () => {
    const line = handle();
    if (!line || line.getAttribute('role') === 'slider') return;
    const named = {role: 'slider', tabindex: 0, 'aria-label': 'Line between before and after', 'aria-valuemin': 0,
      'aria-valuemax': 100, 'aria-valuenow': 50};
    for (const [name, value] of Object.entries(named)) line.setAttribute(name, value);
    line.addEventListener('keydown', (event) => {
      const way = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -100, End: 100}[event.key];
      if (!way) return;
      event.preventDefault();
      const wrap = line.closest('.slider-wrap'), box = wrap.getBoundingClientRect(), now = share(line, wrap);
      const next = Math.min(1, Math.max(0, now + way * STEP)), y = box.top + box.height / 2;
      const at = (kind, where, x) => where.dispatchEvent(
        new MouseEvent(kind, {clientX: box.left + x * box.width, clientY: y, view: window, bubbles: true}));
      at('mousedown', line, now); at('mousemove', window, next); at('mouseup', window, next);
      line.setAttribute('aria-valuenow', Math.round(100 * next));
    });
  };
  document.addEventListener('click', (event) => {
    if (innerWidth > 700 || !event.target.closest?.('#regenerate')) return;
    setTimeout(() => document.querySelector('#status')?.scrollIntoView({block: 'center', behavior: 'smooth'}), 400);
  });
  addEventListener('beforeunload', (event) => {
    const running = ['#cancel', '#cancel-many'].some((name) => document.querySelector(name)?.offsetParent);
    if (running) event.preventDefault();
  });
  const watch = () => new MutationObserver(dress).observe(document.body, {childList: true, subtree: true});
  document.body ? watch() : addEventListener('DOMContentLoaded', watch);
})();
</script>"""
