"""How the page looks: system fonts, one accent colour, light and dark. Nothing is fetched from elsewhere."""

from __future__ import annotations

from typing import Any

SYSTEM = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")


def theme() -> Any:
    from gradio import themes

    return themes.Base(
        primary_hue=themes.colors.teal,
        neutral_hue=themes.colors.slate,
        font=[themes.Font(name) for name in SYSTEM],
        font_mono=[themes.Font(name) for name in MONO],
        radius_size=themes.sizes.radius_lg,
        spacing_size=themes.sizes.spacing_md,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100",
        block_shadow="none",
        block_label_text_size="*text_sm",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        slider_color="*primary_700",
        slider_color_dark="*primary_500",
    )


CSS = """
.gradio-container { max-width: 1240px !important; margin: 0 auto !important;
  padding: 12px clamp(4px, 1.6vw, 20px) 40px !important; }
.html-container { padding: 0 !important; }
.tab-nav button.selected, button.selected[role=tab] { color: var(--primary-700) !important; }
.dark button.selected[role=tab] { color: var(--primary-300) !important; }
footer { display: none !important; }
#head h1 { font-size: 1.7rem; font-weight: 700; letter-spacing: -0.02em; margin: 0; }
#head p { margin: 2px 0 0; color: var(--body-text-color-subdued); font-size: 1rem; }
.facts, .hint { margin: 0; color: var(--body-text-color-subdued); font-size: .9rem; overflow-wrap: anywhere; }
.facts > span { display: inline-block; }
.facts b { color: var(--body-text-color); }
.said, .going p { margin: 0; font-size: .95rem; overflow-wrap: anywhere; }
.said { padding: 10px 14px; border-radius: 10px; background: var(--background-fill-secondary);
        border: 1px solid var(--border-color-primary); }
.said.bad { border-color: #c2410c; background: #fff4ed; color: #7c2d12; }
.dark .said.bad { background: #3a1a0c; color: #fed7aa; }
.said + .said { margin-top: 6px; }
.said.good { border-color: var(--primary-600); }
.going progress { width: 100%; height: 8px; margin: 2px 0 6px; appearance: none; border: 0; border-radius: 6px;
                  overflow: hidden; background: var(--border-color-primary); }
.going progress::-webkit-progress-bar { background: var(--border-color-primary); }
.going progress::-webkit-progress-value { background: var(--primary-600); }
.going progress::-moz-progress-bar { background: var(--primary-600); }
.going progress:indeterminate { background: linear-gradient(90deg, var(--border-color-primary) 30%,
    var(--primary-500) 50%, var(--border-color-primary) 70%) 0 0 / 200% 100%; animation: slide 1.6s linear infinite; }
@keyframes slide { from { background-position: 200% 0; } to { background-position: 0 0; } }
@media (prefers-reduced-motion: reduce) { .going progress:indeterminate { animation: none; } }
.empty { min-height: 440px; display: flex; flex-direction: column; gap: 6px; align-items: center; text-align: center;
         justify-content: center; border: 1px dashed var(--border-color-primary); border-radius: 14px; padding: 24px;
         color: var(--body-text-color-subdued); background: var(--block-background-fill); }
.empty b { font-size: 1.05rem; color: var(--body-text-color); }
.legend { display: flex; padding: 0 14px 14px; background: var(--block-background-fill); align-items: center; gap: 10px;
          font-size: .85rem; color: var(--body-text-color-subdued); }
.legend i { flex: 1; max-width: 220px; height: 10px; border-radius: 5px;
            background: linear-gradient(90deg, #d53e0f, #fdae3c, #f0ecdc, #60a0d6, #21529c); }
.command { margin: 6px 0 0; padding: 10px 12px; overflow-x: auto; border-radius: 10px; font: .85rem var(--font-mono);
           background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); }
.batch { overflow-x: auto; }
.batch table { width: 100%; border: 0 !important; border-collapse: collapse; font-size: .92rem; }
.batch tr { border: 0 !important; }
.batch th, .batch td { text-align: left; padding: 8px 10px; border: 0 !important;
                       border-bottom: 1px solid var(--border-color-primary) !important;
                       overflow-wrap: anywhere; font-weight: 400; vertical-align: top; }
.batch thead th { color: var(--body-text-color-subdued); font-size: .82rem; }
.batch th[scope=row] { min-width: 8em; }
.batch td:nth-child(2) { white-space: nowrap; }
.batch td.done { color: var(--primary-700); } .dark .batch td.done { color: var(--primary-400); }
.batch td.failed { color: #b43403; } .dark .batch td.failed { color: #fb923c; }
:focus-visible { outline: 3px solid var(--primary-500) !important; outline-offset: 2px; }
#gallery label { position: static !important; border: 0 !important; }  /* else over the first candidate */
#gallery .grid-container { padding-top: 0 !important; }
#gallery .grid-wrap, #gallery .fixed-height { min-height: 0 !important; height: auto !important; max-height: none; }
@media (max-width: 700px) {
  .gradio-container .column, .gradio-container .row > * { min-width: 0 !important; }
  .split { display: flex !important; flex-direction: column; flex-wrap: nowrap; }
  .split > .left { display: contents; }
  .split > .left > * { order: 0; width: 100%; }
  .split > .right { order: 1; width: 100%; }
  .split > .left > .options { order: 2; }
  .empty { min-height: 180px; }
  #stage, #input { height: 320px !important; }
  button.lg { min-height: 48px; }
}
"""

# Gradio puts a prefix before the rules above, so that some miss the outermost boxes; this goes into the head as it is.
HEAD = "<style>@media (max-width: 700px) { .gradio-container > .main.fillable { padding: 8px !important; } }</style>"
