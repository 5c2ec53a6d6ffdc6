# The session service on its own. The database and Redis are given to it: DATABASE_URL, REDIS_URL (docker-compose.yml).

ARG NODE_VERSION=22

# Compiles the sources. The compiler is native, and comes as an optional dependency.
FROM node:${NODE_VERSION}-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
COPY patches patches
RUN npm ci --workspaces=false --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src src
RUN npm run build

# What runs. Without the optional dependencies there is neither a compiler nor an embedded PostgreSQL: 85 MB less.
# DATABASE_URL must be set, therefore. A Valkey is still in there, but it would listen inside the container alone.
# The postinstall applies patches/ to the database driver.
FROM node:${NODE_VERSION}-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
COPY patches patches
RUN npm ci --omit=dev --omit=optional --workspaces=false --no-audit --no-fund

FROM node:${NODE_VERSION}-slim AS service
ENV NODE_ENV=production \
    HOST=0.0.0.0 \
    PORT=8011
WORKDIR /app
COPY package.json LICENSE ./
COPY bin bin
COPY drizzle drizzle
COPY patches patches
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /app/dist dist
# Nothing is written at run time: the root filesystem may be read-only.
USER node
EXPOSE 8011
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/health/live`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
# Node gets SIGTERM itself: no shell and no npm in between.
CMD ["node", "bin/session-service.cjs", "serve"]
