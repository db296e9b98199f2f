;;; rlm-project.el --- Ask about a project  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; The project is the one that project.el finds.  To have it among the
;; commands of `project-switch-project':
;;
;;   (add-to-list 'project-switch-commands '(rlm-ask-project "Ask rlm" ?r) t)

;;; Code:

(require 'project)
(require 'rlm)
(require 'rlm-ask)
(require 'rlm-context-files)

(defun rlm-project-root ()
  "Return the root of the current project, or nil."
  (when-let ((project (project-current)))
    (project-root project)))

;;;###autoload
(defun rlm-ask-project (question &optional directory options)
  "Ask QUESTION about the whole of the current project, or of DIRECTORY.
Files that ignore files name are left out, see also `rlm-include' and
`rlm-exclude'.  Unsaved changes are what is asked about.
With a prefix argument, choose the models first.  From Lisp, OPTIONS is a
plist as for `rlm-ask-about'."
  (interactive
   (let ((root (or (rlm-project-root)
                   (user-error "No project here; use `rlm-ask-files' for a directory"))))
     (let ((options (rlm-read-options)))
       (list (rlm-read-question (format "project %s" (rlm-project--name root))) root options))))
  (let ((root (or directory (rlm-project-root) (user-error "No project here"))))
    (rlm-ask-about question
                   (rlm-context-of-directory
                    root (format "project %s" (rlm-project--name root)))
                   options)))

(defun rlm-project--name (root)
  "Return the name of the project at ROOT."
  (file-name-nondirectory (directory-file-name (expand-file-name root))))

(provide 'rlm-project)
;;; rlm-project.el ends here
