import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { defineConfig, type Plugin } from 'vite';

const broker = process.env.HOOKLINE_API ?? 'http://127.0.0.1:18083';

/** The functions of the rule SQL, out of the tables that the broker itself is built from. */
function sqlFunctions(): Plugin {
  const name = 'virtual:sql-functions';
  const row = /\b\w+\(\s*"(\w+)",\s*[^",]+,\s*[^",]+,\s*"((?:[^"\\]|\\.)*)",\s*\(\s*(?:r#"((?:(?!"#)[\s\S])*)"#|"((?:[^"\\]|\\.)*)")/g;
  return {
    name: 'sql-functions',
    resolveId: (id) => (id === name ? `\0${name}` : undefined),
    load(id) {
      if (id !== `\0${name}`) return undefined;
      const found: { name: string; doc: string; example: string }[] = [];
      for (const folder of ['function', 'schema']) {
        const path = join(import.meta.dirname, '../rules/src', folder);
        for (const file of readdirSync(path).filter((entry) => entry.endsWith('.rs'))) {
          const text = readFileSync(join(path, file), 'utf8');
          const table = text.slice(Math.max(0, text.indexOf('TABLE: &[Function]')));
          for (const match of table.matchAll(row)) {
            const plain = (part = '') => part.replace(/\\(["\\])/g, '$1').replace(/\\\s*\n\s*/g, '');
            found.push({ name: match[1] ?? '', doc: plain(match[2]), example: match[3] ?? plain(match[4]) });
          }
        }
      }
      if (found.length < 100) this.error(`only ${found.length} SQL functions were found in ../rules/src`);
      return `export default ${JSON.stringify(found)}`;
    },
  };
}

/** The fonts come by style sheets, so the list of licenses does not know them. */
function fontLicenses(): Plugin {
  return {
    name: 'font-licenses',
    generateBundle() {
      const texts = ['@fontsource-variable/ibm-plex-sans', '@fontsource/ibm-plex-mono'].map((font) => `# ${font}\n\n${readFileSync(join(import.meta.dirname, 'node_modules', font, 'LICENSE'), 'utf8')}`);
      this.emitFile({ type: 'asset', fileName: 'licenses-fonts.md', source: texts.join('\n') });
    },
  };
}

/** Beside each text its compressed form, which the broker sends as it is. */
function compressed(): Plugin {
  return {
    name: 'compressed',
    writeBundle({ dir = 'dist' }, bundle) {
      for (const name of [...Object.keys(bundle), 'icon.svg'].filter((entry) => /\.(js|css|html|svg)$/.test(entry))) {
        writeFileSync(join(dir, `${name}.gz`), gzipSync(readFileSync(join(dir, name)), { level: 9 }));
      }
    },
  };
}

export default defineConfig({
  base: './',
  plugins: [sqlFunctions(), fontLicenses(), compressed()],
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false }, chunkSizeWarningLimit: 800, license: { fileName: 'licenses.md' } },
  server: {
    proxy: {
      '/api': {
        target: broker,
        // The API refuses changes by pages of other origins; in development this server is one.
        configure: (proxy) => proxy.on('proxyReq', (request) => ['origin', 'sec-fetch-site'].forEach((header) => request.removeHeader(header))),
      },
    },
  },
});
